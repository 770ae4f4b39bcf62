package main

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPatchOfARedrive takes credentials from files: what stands in a command, everybody on the machine can see.
func TestPatchOfARedrive(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("Bearer 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := deadRedriveCmd{Header: map[string]string{"X-A": "1", "X-B": ""}, SrcHeader: map[string]string{"Authorization": "@" + file}, DestPrefix: "again/"}
	got, err := c.patch()
	want := map[string]any{
		"headers": map[string]any{"X-A": "1", "X-B": nil}, "src_headers": map[string]any{"Authorization": "Bearer 1"},
		"dest": map[string]string{"prefix": "again/"},
	}
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
	c.SrcHeader["Authorization"] = "@" + file + ".not"
	if _, err := c.patch(); err == nil || describe(err).Exit != exitUsage {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestRateIsANumber refuses what is none: left out, it would mean no limit.
func TestRateIsANumber(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{math.NaN(), -1} {
		if err := (&batchOptions{Rate: &rate}).check(); err == nil {
			t.Errorf("--rate %g passes", rate)
		}
	}
}
