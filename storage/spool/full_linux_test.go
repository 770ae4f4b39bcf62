package spool

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
)

// TestFullDisk writes to the device that is always full.
func TestFullDisk(t *testing.T) {
	file, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_, err = fill(t.Context(), file, strings.NewReader("x"), 100)
	e, ok := errors.AsType[*storage.Error](err)
	if !ok || e.Class != storage.NoSpace || e.Code != "no_space" || e.Hint == "" {
		t.Errorf("error %v, want class NoSpace, code no_space and a hint", err)
	}
}
