package main

import (
	"encoding/json"
	"fmt"
)

// note tells something beside the output, on the standard error.
func (env *environment) note(text string) {
	env.noting.Lock()
	defer env.noting.Unlock()
	if line, err := json.Marshal(map[string]string{"note": text}); env.json && err == nil {
		_, _ = fmt.Fprintf(env.stderr, "%s\n", line) // nobody to tell
		return
	}
	_, _ = fmt.Fprintf(env.stderr, "copyfleet: %s\n", clean(text)) // nobody to tell
}

// printf prints for people.
func printf(env *environment, format string, args ...any) error {
	_, err := fmt.Fprintf(env.stdout, format, args...)
	return wrapPrint(err)
}

// printJSON prints one value on one line.
func printJSON(env *environment, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	_, err = fmt.Fprintf(env.stdout, "%s\n", data)
	return wrapPrint(err)
}
