package rules

import (
	"fmt"
	"strings"
	"testing"
)

// rest is a copy that is valid, for documents whose other fields are at stake.
const rest = "copy: {src: {type: objectLocation, bucket: \"{{bucket}}\", key: \"{{key}}\"}, dest: {type: sandboxFileLocation, sandbox: S, path: \"/in/{{key}}\"}}\n"

const onS3 = "name: a\nmatch: {source: s3, bucket: in-1}\n"

// copying is a rule on S3 with a source and a destination, on the lines 4 and 5.
func copying(src, dest string) string {
	return onS3 + "copy:\n  src: {" + src + "}\n  dest: {" + dest + "}\n"
}

const (
	okSrc  = `type: objectLocation, bucket: "{{bucket}}", key: "{{key}}"`
	okDest = `type: sandboxFileLocation, sandbox: S, path: "/in/{{key}}"`
)

func TestProblems(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want []string // document:line field message…, a part of each
	}{
		"nothing":           {"# only a comment\n---\n", []string{"1:0  There is no rule"}},
		"syntax":            {"name: [a\nmatch: b\n", []string{"1:2  cannot be read"}},
		"syntax hides none": {"name: [a\n---\nname: B\nmatch: {source: s3, bucket: in-1}\n" + rest, []string{"1:", "2:3 name A name has"}},
		"unknown":           {onS3 + "then: x\n" + rest, []string{"1:3 then There is no such field here; known are name"}},
		"unknown inside":    {"name: a\nmatch:\n  source: s3\n  bucket: in-1\n  bukcet: x\n" + rest, []string{"1:5 match.bukcet There is no such field"}},
		"no quotes": {
			strings.Replace(onS3, "bucket: ", "prefix: x/{{key}}, bucket: ", 1) + rest, []string{`1:2  The document cannot be read stand in quotes, as "/in/{{key.base}}"`},
		},
		"twice":               {"name: a\nname: b\nmatch: {source: s3, bucket: in-1}\n" + rest, []string{"1:2 name This field is given twice."}},
		"reserved":            {"name: test\nmatch: {source: s3, bucket: in-1}\n" + rest, []string{"1:1 name is taken by the API"}},
		"missing":             {"options: {}\n", []string{"1:1 name required", "1:1 match required", "1:1 copy required"}},
		"not an object":       {"- a\n", []string{"1:1  must be an object, it is a list"}},
		"a bare placeholder":  {copying("type: objectLocation, bucket: {{bucket}}, key: k", okDest), []string{`1:4 copy.src.bucket must stand in quotes`}},
		"wrong types":         {"name: 7\nmatch: {source: s3, bucket: true}\n" + rest, []string{"1:1 name must be a text, it is a number", "1:2 match.bucket must be a text"}},
		"an alias":            {"name: &n a\nmatch: {source: s3, bucket: *n}\n" + rest, []string{"1:2 match.bucket aliases are not taken"}},
		"a merge":             {"name: a\nmatch: {<<: {source: s3}, bucket: in-1}\n" + rest, []string{"1:2 match.<< There is no such field", "1:2 match.source required"}},
		"a tag":               {"name: !!binary YQ==\nmatch: {source: s3, bucket: in-1}\n" + rest, []string{"1:1 name must be a text"}},
		"a name as a list":    {"? [a]\n: b\nname: a\nmatch: {source: s3, bucket: in-1}\n" + rest, []string{"1:1  name of a field must be a text"}},
		"name":                {"name: -a\nmatch: {source: s3, bucket: in-1}\n" + rest, []string{"1:1 name A name has"}},
		"same names":          {onS3 + rest + "---\n" + onS3 + rest, []string{"2:5 name A rule above has the same name"}},
		"not UTF-8":           {"name: a\n# \xff\n", []string{"1:2  must be UTF-8"}},
		"source":              {"name: a\nmatch: {source: sweep}\n" + rest, []string{"1:2 match.source s3 or cloudevents"}},
		"no bucket":           {"name: a\nmatch: {source: s3}\n" + rest, []string{"1:2 match.bucket required"}},
		"bucket":              {"name: a\nmatch: {source: s3, bucket: '{{b}}'}\n" + rest, []string{"1:2 match.bucket is literal"}},
		"prefix":              {"name: a\nmatch: {source: s3, bucket: in-1, prefix: 'a{{x}}'}\n" + rest, []string{"1:2 match.prefix literal"}},
		"event":               {"name: a\nmatch:\n  source: s3\n  bucket: in-1\n  events:\n  - s3:ObjectCreated:*\n  - s3:ObjectMade:Put\n" + rest, []string{`1:7 match.events There is no event "s3:ObjectMade:Put"`}},
		"event star":          {"name: a\nmatch: {source: s3, bucket: in-1, events: ['s3:*:Put']}\n" + rest, []string{"1:2 match.events at the end only"}},
		"no events":           {"name: a\nmatch: {source: s3, bucket: in-1, events: []}\n" + rest, []string{"1:2 match.events 1 to 50 entries"}},
		"glob":                {"name: a\nmatch: {source: s3, bucket: in-1, glob: 'a[bc]'}\n" + rest, []string{"1:2 match.glob only"}},
		"of S3 in the other":  {"name: a\nmatch: {source: cloudevents, bucket: in-1}\ncopy: {src: {type: httpGetLocation, url: 'http://h/{{event.id}}'}, dest: {type: sandboxFileLocation, sandbox: S, path: /x}}\n", []string{"1:2 match.bucket A rule on cloudevents has no such field"}},
		"of the other in S3":  {"name: a\nmatch: {source: s3, bucket: in-1, types: [a]}\n" + rest, []string{"1:2 match.types A rule on s3 has no such field"}},
		"types":               {"name: a\nmatch: {source: cloudevents, types: ['a*b']}\ncopy: {src: {type: httpGetLocation, url: 'http://h/'}, dest: {type: sandboxFileLocation, sandbox: S, path: /x}}\n", []string{"1:2 match.types at the end only"}},
		"key of a CloudEvent": {"name: a\nmatch: {source: cloudevents}\n" + rest, []string{"1:3 copy.src.bucket belongs to events of S3", "1:3 copy.src.key belongs", "1:3 copy.dest.path belongs"}},
		"when":                {"name: a\nmatch:\n  source: s3\n  bucket: in-1\n  when: |\n    size > 3 &&\n    sise < 9\n" + rest, []string{"1:7 match.when undeclared reference to 'sise'"}},
		"when of a number":    {"name: a\nmatch: {source: s3, bucket: in-1, when: size + 1}\n" + rest, []string{"1:2 match.when must be true or false"}},
		"when of a key":       {"name: a\nmatch: {source: cloudevents, when: key == 'a'}\ncopy: {src: {type: httpGetLocation, url: 'http://h/'}, dest: {type: sandboxFileLocation, sandbox: S, path: /x}}\n", []string{"1:2 match.when undeclared reference to 'key'"}},
		"when types":          {"name: a\nmatch: {source: s3, bucket: in-1, when: key > 3}\n" + rest, []string{"1:2 match.when no matching overload"}},
		"when loops":          {"name: a\nmatch: {source: s3, bucket: in-1, when: '[1].all(a, [1].all(b, [1].all(c, a+b+c > 0)))'}\n" + rest, []string{"1:2 match.when nesting"}},
		"when syntax":         {"name: a\nmatch: {source: s3, bucket: in-1, when: '(((1'}\n" + rest, []string{"1:2 match.when Syntax error"}},
		"options":             {onS3 + rest + "options: {lane: fast, attempts: 21, label: \"a\\nb\"}\n", []string{"1:4 options.lane interactive or bulk", "1:4 options.attempts 1 to 20", "1:4 options.label control"}},
		"unknown type":        {copying("type: ftpLocation", okDest), []string{"1:4 copy.src.type There is no such location type"}},
		"put as a source":     {copying("type: httpPutLocation, url: 'http://h/x'", okDest), []string{"1:4 copy.src.type cannot stand here"}},
		"get as a target":     {copying(okSrc, "type: httpGetLocation, url: 'http://h/x'"), []string{"1:5 copy.dest.type cannot stand here"}},
		"no dest":             {onS3 + "copy: {src: {" + okSrc + "}}\n", []string{"1:3 copy.dest required"}},
		"missing member":      {copying(okSrc, "type: sandboxFileLocation, path: /x"), []string{"1:5 copy.dest.sandbox needs this field"}},
		"foreign member":      {copying(okSrc, okDest+", key: k"), []string{"1:5 copy.dest.key has no such field"}},
		"no such placeholder": {copying(okSrc, `type: sandboxFileLocation, sandbox: S, path: "/in/{{kee}}"`), []string{`1:5 copy.dest.path There is no placeholder "{{kee}}"`}},
		"not closed":          {copying(okSrc, `type: sandboxFileLocation, sandbox: S, path: "/in/{{key"`), []string{`1:5 copy.dest.path not closed`}},
		"placeholder of type": {copying(`type: "{{key}}"`, okDest), []string{`1:4 copy.src.type There is no such location type`}},
		"in the host":         {copying(`type: httpGetLocation, url: "http://{{key}}/x"`, okDest), []string{"1:4 copy.src.url behind scheme, host"}},
		"behind the host":     {copying(`type: httpGetLocation, url: "http://h{{key}}"`, okDest), []string{"1:4 copy.src.url behind scheme, host"}},
		"in the scheme":       {copying(`type: httpGetLocation, url: "{{key}}://h/x"`, okDest), []string{"1:4 copy.src.url behind scheme, host"}},
		"in a port":           {copying(`type: httpGetLocation, url: "http://h:{{key}}/x"`, okDest), []string{"1:4 copy.src.url behind scheme, host"}},
		"userinfo":            {copying(`type: httpGetLocation, url: "http://u:p@h/{{key}}"`, okDest), []string{"1:4 copy.src.url user or password"}},
		"in the fragment":     {copying(`type: httpGetLocation, url: "http://h/x#{{key}}"`, okDest), []string{"1:4 copy.src.url fragment"}},
		"half an escape":      {copying(`type: httpGetLocation, url: "http://h/%2{{key}}"`, okDest), []string{"1:4 copy.src.url hexadecimal"}},
		"no URL":              {copying(`type: httpGetLocation, url: "ftp://h/x"`, okDest), []string{"1:4 copy.src.url must begin with http"}},
		"no host":             {copying(`type: httpGetLocation, url: "http:///x"`, okDest), []string{"1:4 copy.src.url name a host"}},
		"a relative path":     {copying(okSrc, `type: sandboxFileLocation, sandbox: S, path: "{{key}}"`), []string{"1:5 copy.dest.path begins with a literal '/'"}},
		"a climbing path":     {copying(okSrc, `type: sandboxFileLocation, sandbox: S, path: "/in/../{{key}}"`), []string{"1:5 copy.dest.path No event can make this valid"}},
		"a climbing key":      {copying(okSrc, `type: objectLocation, bucket: out-1, key: "a/../{{key}}"`), []string{"1:5 copy.dest.key No event can make this valid"}},
		"a sandbox":           {copying(okSrc, `type: sandboxFileLocation, sandbox: "a b", path: "/x"`), []string{"1:5 copy.dest.sandbox There can be no such sandbox"}},
		"a bucket":            {copying(okSrc, `type: objectLocation, bucket: "A", key: "/x"`), []string{"1:5 copy.dest.bucket A bucket name has"}},
		"onto itself":         {copying(okSrc, `type: objectLocation, bucket: in-1, key: "{{key}}"`), []string{"1:5 copy.dest writes onto itself"}},
		"onto itself, fixed":  {copying("type: sandboxFileLocation, sandbox: S, path: /x", "type: sandboxFileLocation, sandbox: S, path: /x"), []string{"1:5 copy.dest writes onto itself"}},
		"a secret in a path":  {copying(okSrc, `type: sandboxFileLocation, sandbox: S, path: "/{{secret.X}}"`), []string{"1:5 copy.dest.path headers and forms only"}},
		"a secret in a URL":   {copying(`type: httpGetLocation, url: "http://h/?t={{secret.X}}"`, okDest), []string{"1:4 copy.src.url headers and forms only"}},
		"a secret's name":     {copying(`type: httpGetLocation, url: "http://h/", headers: {A: "{{secret.a b}}"}`, okDest), []string{"1:4 copy.src.headers.A The name of a secret"}},
		"a header's name":     {copying(`type: httpGetLocation, url: "http://h/", headers: {"{{key}}": a}`, okDest), []string{"1:4 copy.src.headers A name is literal"}},
		"sizes and sums":      {onS3 + "copy:\n  src: {" + okSrc + "}\n  dest: {" + okDest + "}\n  size: -1\n  sha256: abc\n  conflict: never\n  digest: crc\n  id: all\n", []string{"copy.id placeholder", "1:6 copy.size whole number", "1:7 copy.sha256 64", "1:8 copy.conflict one of", "1:9 copy.digest one of"}},
		"half a size":         {onS3 + "copy:\n  src: {" + okSrc + "}\n  dest: {" + okDest + "}\n  size: \"1{{size}}\"\n", []string{"1:6 copy.size one placeholder"}},
		"JSON":                {"{\n\"name\": \"a\",\n\"match\": {\n\"source\": \"s3\",\n\"bucket\": 7}}", []string{"1:5 match.bucket must be a text", "copy required"}},
		"JSON, twice":         {"{\"name\": \"a\",\n\"name\": \"b\"}", []string{"1:2 name given twice", "match required", "copy required"}},
		"JSON, the second":    {"{\"name\":\"A\"}\n{\"name\":\n\"B\"}", []string{"1:1 name A name", "1:1 match", "1:1 copy", "2:3 name A name", "2:2 match", "2:2 copy"}},
		"too deep":            {"name: " + strings.Repeat("[", 30) + strings.Repeat("]", 30), []string{"1:1  too deeply"}},
		"too deep, JSON":      {`{"name": ` + strings.Repeat("[", 30) + strings.Repeat("]", 30) + "}", []string{"1:1  too deeply"}},
		"too many":            {strings.Repeat("---\nname: [\n", 40) + strings.Repeat(onS3+rest+"---\n", 80), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules, problems := Parse([]byte(test.text))
			if rules != nil || len(problems) == 0 || len(problems) > maxProblems {
				t.Fatalf("%d rules, %d problems, want problems", len(rules), len(problems))
			}
			if test.want == nil {
				return
			}
			if len(problems) != len(test.want) {
				t.Errorf("%d problems, want %d: %+v", len(problems), len(test.want), problems)
			}
			for i, p := range problems[:min(len(problems), len(test.want))] {
				got := fmt.Sprintf("%d:%d %s %s", p.Document, p.Line, p.Field, p.Message)
				begin, end, _ := strings.Cut(test.want[i], " ")
				if colon := strings.HasPrefix(got, begin) || !strings.Contains(begin, ":"); !colon || !inOrder(got, test.want[i]) {
					t.Errorf("problem %d: %q, want %q (%s)", i, got, test.want[i], end)
				}
			}
		})
	}
}

// inOrder reports whether the words of want occur in got, one behind the other.
func inOrder(got, want string) bool {
	for word := range strings.FieldsSeq(want) {
		i := strings.Index(got, word)
		if i < 0 {
			return false
		}
		got = got[i+len(word):]
	}
	return true
}

// TestBombs: what is small as a file and large once it is read is refused without being read.
func TestBombs(t *testing.T) {
	t.Parallel()
	laughs := "a0: &a0 [x, x]\n"
	for i := 1; i < 40; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	for name, text := range map[string]string{
		"laughs":       laughs,
		"a loop":       "&a\nname: *a\nmatch: *a\n",
		"deep":         strings.Repeat("[", MaxFile-1),
		"deep objects": strings.Repeat(`{"a":`, MaxFile/5),
		"long":         strings.Repeat("a: b\n", MaxFile),
		"markers":      strings.Repeat("---\na\n", MaxFile/6),
		"JSON values":  strings.Repeat(`{}`, MaxFile/2),
		"fields":       strings.Repeat("?\n", MaxFile/2),
		"parts":        "name: a\nmatch: {source: s3, bucket: in-1, when: '" + strings.Repeat("(", 7000) + "'}\n" + rest,
		"placeholders": copying(okSrc, `type: objectLocation, bucket: "{{bucket}}", key: "`+strings.Repeat("{{key}}", 1000)+`"`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules, problems := Parse([]byte(text))
			if rules != nil || len(problems) == 0 || len(problems) > maxProblems {
				t.Fatalf("%d rules, %d problems", len(rules), len(problems))
			}
			size := 0
			for _, p := range problems {
				size += len(p.Message) + len(p.Field)
			}
			if size > maxProblems*1000 {
				t.Errorf("the problems have %d bytes", size)
			}
		})
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	jsonRule := `{"name":"%s","match":{"source":"cloudevents"},"copy":{"src":{"type":"httpGetLocation","url":"http:\/\/h/\ud83d\ude00"},` +
		"\n\t" + `"dest":{"type":"sandboxFileLocation","sandbox":"S","path":"/x"}}}`
	a, b := fmt.Sprintf(jsonRule, "a"), fmt.Sprintf(jsonRule, "b")
	yamlRule := strings.TrimSpace(onS3 + rest)
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"JSON":         {a, []string{a}},
		"JSON, two":    {" " + a + "\n\n" + b + "\n", []string{a, b}},
		"YAML":         {"\ufeff%YAML 1.2\n---\n" + onS3 + rest + "...\n", []string{yamlRule}},
		"both":         {"--- # first\n" + yamlRule + "\n---\n" + b + "\n---\n# the end\n", []string{"# first\n" + yamlRule, b}},
		"CRLF":         {strings.ReplaceAll(onS3+rest+"---\n"+b, "\n", "\r\n"), []string{strings.ReplaceAll(yamlRule, "\n", "\r\n"), strings.ReplaceAll(b, "\n", "\r\n")}},
		"on its line":  {"--- {name: c, match: {source: cloudevents}, copy: {src: {type: sandboxFileLocation, sandbox: S, path: /a}, dest: {type: sandboxFileLocation, sandbox: S, path: /b}}}", nil},
		"null is none": {onS3 + "options: null\n" + rest, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules, problems := Parse([]byte(test.text))
			if len(problems) > 0 || len(rules) != max(len(test.want), 1) {
				t.Fatalf("%d rules, problems %+v", len(rules), problems)
			}
			for i, want := range test.want {
				if got := string(rules[i].Text); got != want {
					t.Errorf("the text of rule %d is %q, want %q", i, got, want)
				}
				if again, problems := Parse(rules[i].Text); len(again) != 1 || len(problems) > 0 || again[0].Name != rules[i].Name {
					t.Errorf("the text of rule %d cannot be read again: %+v", i, problems)
				}
			}
		})
	}
}

func TestWhatARuleSays(t *testing.T) {
	t.Parallel()
	r := parsed(t, copying(`type: httpGetLocation, url: "http://h/", headers: {b: "{{secret.two}}", a: "Bearer {{secret.one}} {{secret.two}}"}`,
		`type: objectLocation, bucket: out-1, key: "{{key}}"`)+"options: {lane: interactive, attempts: 3, label: L}\n")
	if got := r.Secrets(); len(got) != 2 || got[0] != "one" || got[1] != "two" {
		t.Errorf("secrets %q", got)
	}
	if !r.WritesObjects() || parsed(t, copying(okSrc, okDest)).WritesObjects() {
		t.Error("WritesObjects does not tell a bucket from a sandbox")
	}
	if r.Options != (Options{Lane: "interactive", Attempts: 3, Label: "L"}) || r.Match != (Match{Source: "s3", Bucket: "in-1"}) {
		t.Errorf("options %+v, match %+v", r.Options, r.Match)
	}
	const want = `{"src":{"type":"httpGetLocation","url":"http://h/","headers":{"a":"Bearer sample sample","b":"sample"}},` +
		`"dest":{"type":"objectLocation","bucket":"out-1","key":"sample/a.txt"}}`
	if got, err := r.Sample(); err != nil || string(got) != want {
		t.Errorf("the sample is %s, %v, want %s", got, err, want)
	}
	for field, want := range map[string]bool{
		"copy": false, "copy.src": false, "copy.src.url": true, "copy.src.headers": false, "copy.src.headers.a": false, "copy.dest.bucket": true,
		"copy.dest.key": false, "copy.none": true,
	} {
		if r.Settled(field) != want {
			t.Errorf("Settled(%q) is %v", field, !want)
		}
	}
	file := "# first\n---\n" + copying(okSrc, okDest) + "---\n" + strings.Replace(copying(okSrc, okDest), "name: ", "name: x", 1)
	list, problems := Parse([]byte(file))
	if len(problems) > 0 || len(list) != 2 {
		t.Fatal(problems)
	}
	first := 1 + strings.Count(file[:strings.LastIndex(file, "---")], "\n") // line of the last document
	for _, want := range []Problem{
		{2, first + lineOf(copying(okSrc, okDest), "dest:"), "copy.dest.path.nope", "m"}, {2, first + lineOf(copying(okSrc, okDest), "name:"), "name", "m"},
		{2, first + lineOf(copying(okSrc, okDest), "copy:"), "copy.nope", "m"}, {2, 0, "nope", "m"},
	} {
		if got := list[1].Problem(want.Field, want.Message); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// lineOf is the line of a text on which something begins.
func lineOf(text, what string) int {
	before, _, _ := strings.Cut(text, what)
	return 1 + strings.Count(before, "\n")
}
