package observe

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocsTellOfEachMetric compares the names with the table for operators.
func TestDocsTellOfEachMetric(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("names.go")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\tname\w+ *= "(copyfleet\.[a-z.]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(names) < 15 {
		t.Fatalf("%d metrics", len(names))
	}
	for _, name := range names {
		shown := strings.ReplaceAll(name[1], ".", "_")
		if !regexp.MustCompile("`" + shown + "(_bytes|_seconds)?(_total)?`").Match(docs) {
			t.Errorf("operations.md does not tell of %s", shown)
		}
	}
}
