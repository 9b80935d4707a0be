"""``python -m ssn_bench.demo``: the whole pipeline on made-up surfaces. No torch of its own."""
