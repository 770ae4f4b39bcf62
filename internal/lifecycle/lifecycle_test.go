package lifecycle_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/lifecycle"
)

func TestDataDirBelongsToOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "data")
	dir, err := lifecycle.OpenDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lifecycle.OpenDataDir(path)
	if !errors.Is(err, lifecycle.ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("the second opening: %v, want ErrInUse with the path", err)
	}
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := lifecycle.OpenDataDir(path)
	if err != nil {
		t.Fatalf("opening it after it was given free: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSecretIsMadeOnceAndPrivate(t *testing.T) {
	t.Parallel()
	dir, err := lifecycle.OpenDataDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	first, made, err := dir.Secret("key", func() string { return "one" })
	if err != nil || !made || first != "one" {
		t.Fatalf("first: %q, %v, %v", first, made, err)
	}
	second, made, err := dir.Secret("key", func() string { return "two" })
	if err != nil || made || second != "one" {
		t.Fatalf("second: %q, %v, %v", second, made, err)
	}
	info, err := os.Stat(dir.Path("key"))
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %o, want 600", mode)
	}
	entries, err := os.ReadDir(dir.Path())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".new-") {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}
