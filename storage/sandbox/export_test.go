package sandbox

import "errors"

// Classify returns the error that a store makes of a system error.
func Classify(err error) error {
	s := &Store{escapes: errors.New("the path escapes")}
	return s.fail("write", place{org: "o", sandbox: "s", path: "/f"}, err)
}
