from ssn_bench.promises.cli import main

main()
