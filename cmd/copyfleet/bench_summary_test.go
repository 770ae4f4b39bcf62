package main

import (
	"testing"

	"github.com/copyfleet/copyfleet/loadtest/report"
)

// TestNothingWentWell ends with the code of what the store said, and never as if an option were wrong or something were not there that is.
func TestNothingWentWell(t *testing.T) {
	t.Parallel()
	for class, want := range map[string]int{
		"not_found": exitNotFound, "denied": exitDenied, "invalid": exitTemporary, "unavailable": exitTemporary, "throttled": exitTemporary, "internal": exitFatal,
	} {
		s := &benchSummary{Summary: &report.Summary{Failures: []report.Failure{{Operation: "put", Class: class, Code: "x", Message: "it says why"}}}}
		if told := describe(s.verdict(t.Context())); told.Exit != want {
			t.Errorf("%s: exit %d, want %d", class, told.Exit, want)
		}
	}
}
