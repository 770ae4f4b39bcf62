package main

import "time"

// aggregatorFlags are those of an aggregator, in up and aggregator.
type aggregatorFlags struct {
	Retention time.Duration `help:"How long a batch that has ended is kept, with its receipts and its manifest. The same for every aggregator." default:"168h" env:"COPYFLEET_RETENTION"`
}

func (f aggregatorFlags) check() error { return positive("--retention", f.Retention) }
