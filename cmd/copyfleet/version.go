package main

// versionCmd prints the version of the program.
type versionCmd struct{}

// Run implements the command.
func (versionCmd) Run(env *environment) error {
	if env.json {
		return printJSON(env, map[string]string{"version": version})
	}
	return printf(env, "%s\n", version)
}
