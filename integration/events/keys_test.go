package events

import (
	"fmt"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/producer/triggers"
)

// oddKeys are names in which something would be lost or added if they were decoded twice, or not at all. Those with another meaning in paths MinIO does not
// take: an empty, "." or ".." segment.
var oddKeys = []string{
	"a b", "a+b", "a%2Bb", "a%20b", "a%252Fb", "100%", "%", "%zz", "a?b=c&d", "a#b", "a&b", "a=b", "a;b", "it's", `say "x"`, `back\slash`, "<tag>", "a|b", "{{key}}",
	"{{secret.x}}", "$(x)", "`x`", "~!@$^*()[],:", "ünïcödé", "日本語/キー", "e\u0301", "\u00e9", "😀", " leading", "trailing ", "+", "++ +", ".hidden", "a..b", "dir/sub dir/x+y %41", "\u2028 separator",
	strings.Repeat("long/", 40) + "end",
}

// refused are keys of MinIO that no item may have, neither as its source nor as its destination: no listing could show them as they are.
var refused = []string{"line\nbreak", "tab\there", "ctl\x01", "bell\x07\x7f"}

// keysArrive writes objects with odd names, and copies them to names made of these: into a sandbox, into a bucket, and by a URL.
func keysArrive(t *testing.T, f *fleet) {
	t.Helper()
	bucket, to := f.publishing(t, natsJetStream), f.bucket(t)
	byURL := fmt.Sprintf(`name: odd-url
match: {source: s3, bucket: %s}
copy:
  id: "{{etag}} {{sequencer}}"
  src: {type: objectLocation, bucket: "{{bucket}}", key: "{{key}}"}
  dest: {type: httpPutLocation, url: "%s/odd/{{key}}?name={{key}}"}
`, bucket, f.URL)
	whole := strings.Replace(toBucket("odd-bucket", bucket, "", to, "copy/"), "{{key.base}}", "{{key}}", 1)
	f.apply(t, f.toSandbox("odd-box", bucket), whole, byURL)
	content := func(i int) string { return fmt.Sprintf("content %d of %q", i, oddKeys[i]) }
	for i, key := range oddKeys {
		f.puts(t, bucket, key, content(i))
	}
	for _, key := range refused {
		f.puts(t, bucket, key, "")
	}
	f.copied(t, "odd-url", len(oddKeys))
	f.copied(t, "odd-bucket", len(oddKeys))
	f.copied(t, "odd-box", len(oddKeys))
	for i, key := range oddKeys {
		if taken := f.Taken("/odd/" + key); len(taken) != 1 || string(taken[0]) != content(i) {
			t.Errorf("by its URL %q was uploaded as %q", key, taken)
		}
	}
	for i, key := range oddKeys {
		if got, err := f.API.Object(t.Context(), to, "copy/"+key); err != nil || string(got) != content(i) {
			t.Errorf("the copy of %q holds %q, %v", key, got, err)
		}
		f.holds(t, "odd-box", key, content(i))
	}
	for rule, code := range map[string]string{"odd-url": "invalid_key", "odd-bucket": "escapes", "odd-box": "escapes"} {
		v := f.counts(t, rule, func(c triggers.Counts) bool { return c.Refused == len(refused) })
		for _, p := range v.Problems {
			if p.Code != code {
				t.Errorf("%s refused: %+v", rule, p)
			}
		}
	}
	t.Logf("%d keys, decoded once each; %d refused", len(oddKeys), len(refused))
}
