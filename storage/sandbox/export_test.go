package sandbox

import (
	"errors"
	"os"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// Classify returns the error that a store makes of a system error.
func Classify(err error) error {
	s := &Store{escapes: errors.New("the path escapes")}
	return s.fail("write", place{org: "o", sandbox: "s", path: "/f"}, err)
}

// RemoveWithin limits how long the trees of a store are removed.
func RemoveWithin(s *Store, limit time.Duration) { s.removeWithin = limit }

// MoveNewByHand is moveNewByHand between two directories.
func MoveNewByHand(from, name, to, as string) error {
	a, err := os.Open(from)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(to)
	if err != nil {
		return err
	}
	defer b.Close()
	return moveNewByHand(directory{a}, name, directory{b}, as)
}

// ReplaceInSteps puts what is hidden in the place of a directory, as on a file system that cannot exchange names.
func ReplaceInSteps(s *Store, org, sandbox, path, temp string) error {
	t, _ := s.Tree(org, sandbox, path, storage.ReplaceTree, storage.TreeLimits{}, temp, nil).(*tree)
	above, name, err := t.at.place.split("test")
	if err != nil {
		return err
	}
	dir, err := t.at.openParent(above)
	if err != nil {
		return err
	}
	defer dir.close()
	return (&publication{tree: t, dir: dir, name: name}).replaceInSteps()
}
