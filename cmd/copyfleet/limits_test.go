package main

import (
	"strings"
	"testing"
	"time"
)

// TestLimitsThatCannotWork are refused at the start, not at the first large item.
func TestLimitsThatCannotWork(t *testing.T) {
	t.Parallel()
	fine := workerFlags{
		Slots: 1, PartThreshold: 1 << 20, PartSize: maxPartSize, SpreadAfter: time.Second, Pool: "default", MinProgress: 1,
		HeaderTimeout: time.Second, IdleTimeout: time.Second, Drain: time.Second,
	}
	if err := fine.check(); err != nil {
		t.Fatal(err)
	}
	large, none := fine, fine
	large.PartSize, none.MinProgress = maxPartSize+1, 0
	for flag, f := range map[string]workerFlags{"--part-size": large, "--min-progress": none} {
		if err := f.check(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
