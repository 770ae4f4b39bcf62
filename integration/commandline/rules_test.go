package commandline

import (
	"strings"
	"testing"
)

// ruleFile is a rule that copies from a bucket into the sandbox. Both parts of the path come from the key, which may climb.
func ruleFile(name, bucket string) string {
	return "name: " + name + "\nmatch: {source: s3, bucket: " + bucket + "}\ncopy:\n  src: {type: objectLocation, bucket: \"{{bucket}}\", key: \"{{key}}\"}\n" +
		"  dest: {type: sandboxFileLocation, sandbox: SBX-1, path: \"/in/{{key}}\"}\n"
}

// Mistakes with rules, secrets and events end with the exit codes of all commands, and say what to do.
func TestRuleExitCodes(t *testing.T) {
	t.Parallel()
	f := up(t)
	good := file(t, "good.yaml", ruleFile("good", "incoming"))
	wrong := file(t, "wrong.yaml", strings.Replace(ruleFile("wrong", "incoming"), "{{key}}\"}\n", "{{kee}}\"}\n", 1)+"---\n"+ruleFile("test", "incoming"))
	event := func(key string) string {
		return file(t, "event.json", `{"Records":[{"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"incoming"},"object":{"key":"`+key+`"}}}]}`)
	}
	cloud := file(t, "cloud.json", `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`)
	copier := "API_KEY=" + strings.TrimSpace(expect(t, f, allSucceeded, "keys", "create", f.API.Org, "--role", "copy").Stdout)
	const nobody = "URL=http://127.0.0.1:1"
	for _, row := range []struct {
		exit int
		env  string
		args []string
		says string // to stdout or stderr
	}{
		{allSucceeded, "", []string{"rules", "list"}, "no rules"},
		{allSucceeded, "", []string{"rules", "apply", good}, "created"},
		{allSucceeded, "", []string{"rules", "apply", good, "--json"}, `"change":"unchanged"`},
		{allSucceeded, "", []string{"rules", "test", event("a/b")}, "1 copy would be made"},
		{allSucceeded, copier, []string{"events", "send", event("other")}, "1 event accepted"},
		{someFailed, "", []string{"rules", "test", event("../b")}, "refused: escapes"},
		{someFailed, "", []string{"rules", "test", event("../b"), "--json"}, `"exit":1`},
		{usage, "", []string{"rules", "apply", wrong}, wrong + ":4: /copy/src/key: There is no placeholder"},
		{usage, "", []string{"rules", "apply", good, wrong}, wrong + ":7: /name: The name test is taken"},
		{usage, "", []string{"rules", "apply", "/no/such/rules.yaml"}, "/no/such/rules.yaml"},
		{usage, "", []string{"rules", "test", event("%zz")}, "event_malformed"},
		{usage, "", []string{"rules", "test", event("a"), "--rules", file(t, "empty.yaml", "# none\n")}, "There is no rule"},
		{usage, "", []string{"rules", "show", "good@first"}, "a version is a number"},
		{usage, "", []string{"events", "send", cloud}, "--type cloudevents"},
		{usage, "", []string{"events", "send", "--type", "odd", cloud}, "--type"},
		{usage, "", []string{"events", "connect", "--bucket", "incoming"}, "--arn"},
		{usage, "", []string{"secrets", "set", "no name", "--value-file", good}, "The name of a secret"},
		{usage, "", []string{"secrets", "set", "token", "value"}, "unexpected argument"},
		{notFound, "", []string{"rules", "show", "good@2"}, "rule_not_found"},
		{notFound, "", []string{"rules", "delete", "other"}, "copyfleet rules list"},
		{notFound, "", []string{"rules", "sweep", "other"}, "rule_not_found"},
		{notFound, "", []string{"secrets", "delete", "other"}, "copyfleet secrets list"},
		{notAllowed, copier, []string{"rules", "apply", good}, "forbidden"},
		{notAllowed, copier, []string{"rules", "delete", "good"}, "forbidden"},
		{notAllowed, copier, []string{"secrets", "set", "token", "--value-file", good}, "forbidden"},
		{notAllowed, "API_KEY=wrong", []string{"events", "send", event("a")}, "unauthorized"},
		{tryAgain, "", []string{"rules", "sweep", "good"}, "The bucket does not exist"},
		{tryAgain, nobody, []string{"rules", "list"}, "copyfleet up"},
		{tryAgain, nobody, []string{"events", "send", event("a")}, "copyfleet up"},
	} {
		var env []string
		if row.env != "" {
			env = []string{row.env}
		}
		out := f.Command(t, env, row.args...)
		if out.Exit != row.exit || !strings.Contains(out.Stdout+out.Stderr, row.says) {
			t.Errorf("copyfleet %q with %q ended with %d, want %d and %q\n%s%s", row.args, row.env, out.Exit, row.exit, row.says, out.Stdout, out.Stderr)
		}
	}
	if out := expect(t, f, allSucceeded, "rules", "list"); strings.Contains(out.Stdout, "wrong") || strings.Count(out.Stdout, "\n") != 2 {
		t.Errorf("a file with mistakes changed the rules:\n%s", out.Stdout)
	}
}
