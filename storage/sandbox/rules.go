package sandbox

// CheckPath refuses what is no path of a file in a sandbox, wherever sandboxes are kept: the rules, the codes and the texts are the same.
func CheckPath(op, org, sandbox, path string) error {
	_, _, err := place{org: org, sandbox: sandbox, path: path}.split(op)
	return err
}

// Subject is how errors name a file in a sandbox.
func Subject(sandbox, path string) string { return place{sandbox: sandbox, path: path}.subject() }
