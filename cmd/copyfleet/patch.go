package main

import (
	"fmt"
	"os"
	"strings"
)

// headerValue is a value as the API takes it: nil removes the header, and a file keeps a credential out of the list of processes.
func headerValue(name, value string) (any, error) {
	file, ok := strings.CutPrefix(value, "@")
	if !ok {
		if value == "" {
			return nil, nil //nolint:nilnil // the null of JSON
		}
		return value, nil
	}
	data, err := os.ReadFile(file)
	if err == nil && len(data) > maxHeaderFile {
		err = fmt.Errorf("%s is too large for a header", file)
	}
	if err != nil {
		return nil, exitWith(exitUsage, "header %s: %w", name, err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

const maxHeaderFile = 16 << 10

// patch is what is to be otherwise than before.
func (c *deadRedriveCmd) patch() (map[string]any, error) {
	patch := map[string]any{}
	for member, given := range map[string]map[string]string{"headers": c.Header, "src_headers": c.SrcHeader, "dest_headers": c.DestHeader} {
		headers := map[string]any{}
		for name, given := range given {
			value, err := headerValue(name, given)
			if err != nil {
				return nil, err
			}
			headers[name] = value
		}
		if len(headers) > 0 {
			patch[member] = headers
		}
	}
	dest := map[string]string{}
	for name, value := range map[string]string{"sandbox": c.DestSandbox, "path_prefix": c.DestPath, "bucket": c.DestBucket, "prefix": c.DestPrefix} {
		if value != "" {
			dest[name] = value
		}
	}
	if len(dest) > 0 {
		patch["dest"] = dest
	}
	return patch, nil
}
