package main

import "testing"

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"version"}, version + "\n"},
		{[]string{"--version"}, version + "\n"},
		{[]string{"version", "--json"}, `{"version":"` + version + `"}` + "\n"},
	} {
		if exit, out, told := command(t, row.args...); exit != exitOK || out != row.want || told != "" {
			t.Errorf("copyfleet %q ended with %d: %q, %q; want %q", row.args, exit, out, told, row.want)
		}
	}
}
