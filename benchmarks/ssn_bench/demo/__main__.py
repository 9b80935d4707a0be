from ssn_bench.demo.pipeline import main

main()
