package main

import "time"

// aggregatorFlags are those of an aggregator, in up and aggregator.
type aggregatorFlags struct {
	Retention time.Duration `help:"How long a batch that has ended is kept, with its receipts and its manifest. The same for every aggregator." default:"168h" env:"COPYFLEET_RETENTION"`
	// PartsAfter is for tests: nobody has a reason to change it.
	PartsAfter time.Duration `help:"How long what is known of a file's parts must not have changed before it is looked whether anything is left of a file that has ended." hidden:"" default:"10m" env:"COPYFLEET_PARTS_AFTER"`
}

func (f aggregatorFlags) check() error {
	return first(positive("--retention", f.Retention), positive("--parts-after", f.PartsAfter))
}
