from ssn_bench.soak.line_soak import main

main()
