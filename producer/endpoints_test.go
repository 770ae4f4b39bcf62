package producer

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPresign(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{AutoBuckets: true})
	if _, _, err := b.registry.PutGrant(t.Context(), "one", "abc", "mine"); err != nil {
		t.Fatal(err)
	}
	d := newDescription(t, apiDescription)
	for _, tc := range []struct {
		body   string
		status int
		want   []string // problems
	}{
		{`{"method":"GET","bucket":"abc","key":"mine/k"}`, 200, nil},
		{`{"method":"PUT","bucket":"abc","key":"mine/k","expires_seconds":604800,"content_type":"image/png"}`, 200, nil},
		{`{"method":"POST","bucket":"abc","key":"mine/k","min_size":1,"max_size":10,"content_type":null}`, 200, nil},
		{`{"method":"GET","bucket":"abc","key":"mine"}`, 403, []string{"/bucket bucket_not_granted"}},
		{`{"method":"GET","bucket":"abc","key":"minerals/k"}`, 403, []string{"/bucket bucket_not_granted"}},
		{`{"method":"GET","bucket":"abc","key":"mine/../k"}`, 400, []string{"/key invalid_key"}},
		{`{}`, 400, []string{"/method missing", "/bucket missing", "/key missing"}},
		{`{"method":"get","bucket":"abc","key":"mine/k"}`, 400, []string{"/method not_allowed"}},
		{`{"method":"DELETE","bucket":"abc","key":"mine/k"}`, 400, []string{"/method not_allowed"}},
		{`{"method":"GET","bucket":"abc","key":"mine/k","expires_seconds":0}`, 400, []string{"/expires_seconds out_of_range"}},
		{`{"method":"GET","bucket":"abc","key":"mine/k","expires_seconds":604801}`, 400, []string{"/expires_seconds out_of_range"}},
		{`{"method":"GET","bucket":"abc","key":"mine/k","expires_seconds":1.5}`, 400, []string{"/expires_seconds out_of_range"}},
		{`{"method":"GET","bucket":"abc","key":"mine/k","expires_seconds":1e3}`, 400, []string{"/expires_seconds out_of_range"}},
		{`{"method":"GET","bucket":"abc","key":"mine/k","expires_seconds":"60"}`, 400, []string{"/expires_seconds wrong_type"}},
		{`{"method":"GET","bucket":"abc","key":"mine/k","content_type":"image/png"}`, 400, []string{"/content_type unexpected_member"}},
		{`{"method":"PUT","bucket":"abc","key":"mine/k","max_size":10}`, 400, []string{"/max_size unexpected_member"}},
		{`{"method":"PUT","bucket":"abc","key":"mine/k","content_type":"a\r\nb: c"}`, 400, []string{"/content_type not_allowed"}},
		{`{"method":"PUT","bucket":"abc","key":"mine/k","content_type":""}`, 400, []string{"/content_type not_allowed"}},
		{`{"method":"POST","bucket":"abc","key":"mine/k","min_size":10,"max_size":1}`, 400, []string{"/min_size out_of_range"}},
		{`{"method":"GET","bucket":"abc","key":"mine/k","expires":60}`, 400, []string{"/expires unknown_member"}},
		{`[]`, 400, []string{" wrong_type"}},
		{`{"method":"GET","method":"PUT"}`, 400, []string{"/method syntax"}},
	} {
		a := b.call("one/copy", "POST", "/v1/presign", tc.body)
		if a.status != tc.status {
			t.Errorf("%s: %d, want %d: %s", tc.body, a.status, tc.status, a.body)
			continue
		}
		d.check(t, "POST", "/v1/presign", a)
		var got []string
		if a.status != 200 {
			for _, e := range a.problem().Errors {
				got = append(got, e.Pointer+" "+e.Code)
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.body, diff)
		}
	}
	want := []PresignRequest{
		{Org: "one", Method: "GET", Bucket: "abc", Key: "mine/k", Expires: time.Hour},
		{Org: "one", Method: "PUT", Bucket: "abc", Key: "mine/k", Expires: 7 * 24 * time.Hour, ContentType: "image/png", MakeBucket: true},
		{Org: "one", Method: "POST", Bucket: "abc", Key: "mine/k", Expires: time.Hour, MinSize: 1, MaxSize: 10, MakeBucket: true},
	}
	if diff := cmp.Diff(want, b.signer.asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
}

// TestPresignFailures answers without the cause, and logs it without the signature.
func TestPresignFailures(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{GrantAll: true, DefaultOrg: "one"})
	const body = `{"method":"GET","bucket":"abc","key":"k"}`
	b.signer.err = ErrNoBucket
	b.call("one/copy", "POST", "/v1/presign", body).want(404, CodeBucketNotFound)
	b.signer.err = &url.Error{Op: "Get", URL: "https://s3.test/?X-Amz-Signature=s3cret", Err: errors.New("refused by peer")}
	a := b.call("one/copy", "POST", "/v1/presign", body).want(503, CodeStorageUnavailable)
	if a.header.Get("Retry-After") == "" || strings.Contains(string(a.body), "refused by peer") {
		t.Errorf("answer %v %s", a.header, a.body)
	}
	if log := b.log.String(); strings.Contains(log, "s3cret") || !strings.Contains(log, "refused by peer") {
		t.Errorf("log: %s", log)
	}
}

func TestSandboxes(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	put := func(path, body string, status int) answer {
		return b.call("one/admin", "PUT", "/v1/sandboxes/"+path, body).want(status, "")
	}
	b.call("one/copy", "PUT", "/v1/sandboxes/other", `{"pool":"gpu"}`).want(403, CodeForbidden)
	b.call("one/copy", "PUT", "/v1/sandboxes/other", `{"pool":"default"}`).want(201, "")
	first := decode[Sandbox](put("box", `{"pool":"gpu"}`, 201))
	if first.Pool != "gpu" || first.Org != "one" {
		t.Errorf("sandbox %+v", first)
	}
	if got := decode[Sandbox](put("box", "", 200)); got != first {
		t.Errorf("a PUT without a pool changed %+v to %+v", first, got)
	}
	if got := decode[Sandbox](put("box", `{"pool":"default"}`, 200)); got.Pool != "default" || !got.Created.Equal(first.Created) {
		t.Errorf("moved to %+v", got)
	}
	put("box", `{"pool":""}`, 400)
	put("box", `{"pool":"a b"}`, 400)
	put("box", `{"pools":"a"}`, 400)
	put("box", `[`, 400)
	put("-box", "", 400)
	put("b%20x", "", 400)
	b.call("one/copy", "PUT", "/v1/sandboxes/box", "pool=x", "Content-Type", "application/x-www-form-urlencoded").want(415, CodeUnsupportedMedia)
	b.call("one/copy", "PUT", "/v1/sandboxes/box", `{"pool":"`+strings.Repeat("x", smallBody)+`"}`).want(413, CodeBodyTooLarge)
	b.call("one/copy", "DELETE", "/v1/sandboxes/box", "").want(204, "")
	b.call("one/copy", "GET", "/v1/sandboxes/box", "").want(404, CodeSandboxNotFound)
}

func TestKeysAreValidated(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	for _, body := range []string{
		`{}`, `{"org":"one"}`, `{"org":"a b","role":"read"}`, `{"org":"one","role":"root"}`, `{"org":"one","role":"read","key":"mine"}`,
		`{"org":"one","role":"read","name":"` + strings.Repeat("n", 129) + `"}`, `{"org":"one","role":"read","name":"a\nb"}`,
	} {
		b.call("one/admin", "POST", "/v1/keys", body).want(400, CodeInvalidRequest)
	}
	orgs := decode[orgList](b.call("one/admin", "GET", "/v1/orgs", "")).Orgs
	if want := []Org{{ID: "one", Keys: 3}, {ID: "two", Keys: 3}}; cmp.Diff(want, orgs) != "" {
		t.Errorf("orgs %+v", orgs)
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	d := newDescription(t, apiDescription)
	d.check(t, "GET", "/readyz", b.call("", "GET", "/readyz", "").want(200, ""))
	d.check(t, "GET", "/healthz", b.call("", "GET", "/healthz", "").want(200, ""))
	*b.health = checks{{Name: "queue", OK: true}, {Name: "disk", Message: "2% free"}}
	a := b.call("", "GET", "/readyz", "").want(503, CodeNotReady)
	d.check(t, "GET", "/readyz", a)
	if diff := cmp.Diff([]Check{{Name: "disk", Message: "2% free"}}, a.problem().Checks); diff != "" {
		t.Error(diff)
	}
	b.call("", "GET", "/healthz", "").want(200, "")
}

func TestRequestIDAndLog(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	if got := b.call("", "GET", "/healthz", "", "X-Request-Id", "abc-1").header.Get("X-Request-Id"); got != "abc-1" {
		t.Errorf("id %q", got)
	}
	for _, bad := range []string{"a b", "ä", strings.Repeat("x", 129), `"`} {
		if got := b.call("", "GET", "/healthz", "", "X-Request-Id", bad).header.Get("X-Request-Id"); got == bad || len(got) != 32 {
			t.Errorf("%q came back as %q", bad, got)
		}
	}
	a := b.call("one/copy", "POST", copyPath+"?token=s3cret", withURL("https://example.test/?sig=s3cret")+"x")
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Server") != "" {
		t.Errorf("headers %v", a.header)
	}
	log := b.log.String()
	if strings.Contains(log, "s3cret") || strings.Contains(log, b.keys["one/copy"]) {
		t.Errorf("the log tells secrets: %s", log)
	}
	for _, want := range []string{`"route":"/healthz"`, `"status":200`, `"request_id":"abc-1"`, `"route":"/api/orgs/{orgId}/sandboxes/{sandboxId}/file/copy"`, `"status":404`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s: %s", want, log)
		}
	}
}

func TestPanics(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Config{})
	mux := http.NewServeMux()
	mux.HandleFunc("/early", func(http.ResponseWriter, *http.Request) {
		panic(&url.Error{Op: "Get", URL: "https://s3.test/?s3cret", Err: errors.New("cause")})
	})
	mux.HandleFunc("/value", func(_ http.ResponseWriter, r *http.Request) { panic(r.Header) })
	mux.HandleFunc("/late", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("half"))
		_ = http.NewResponseController(w).Flush()
		panic("late")
	})
	b.serve(b.server.wrap(mux))
	b.call("", "GET", "/early", "").want(500, CodeInternal)
	b.call("", "GET", "/value", "", "X-Secret", "s3cret").want(500, CodeInternal)
	resp, err := b.client.Get(b.url + "/late")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if _, err := resp.Body.Read(make([]byte, 4)); err == nil || err.Error() == "EOF" {
		t.Errorf("half an answer ended like a whole one: %v", err)
	}
	if log := b.log.String(); strings.Contains(log, "s3cret") || strings.Count(log, "panic in a handler") != 3 {
		t.Errorf("log: %s", log)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		cfg   Config
		field string
	}{
		{Config{}, ""},
		{Config{MaxWait: time.Hour, MaxBody: 1, MaxItems: 1, DefaultOrg: "ORG-dev", GrantAll: true}, ""},
		{Config{MaxBody: 1 << 30}, ""},
		{Config{MaxWait: -1}, "MaxWait"},
		{Config{MaxWait: 2 * time.Hour}, "MaxWait"},
		{Config{MaxBody: -1}, "MaxBody"},
		{Config{MaxBody: 1<<30 + 1}, "MaxBody"},
		{Config{MaxBody: 10, MaxBuffered: 9}, "MaxBuffered"},
		{Config{MaxItems: -1}, "MaxItems"},
		{Config{MaxItems: 1_000_001}, "MaxItems"},
		{Config{DefaultOrg: "a b"}, "DefaultOrg"},
		{Config{GrantAll: true}, "DefaultOrg"},
	} {
		err := tc.cfg.Validate()
		got := ""
		if e, ok := errors.AsType[*ConfigError](err); ok {
			got = e.Field
			if e.Rule == "" || !strings.Contains(e.Error(), e.Field) {
				t.Errorf("%+v: %v", tc.cfg, err)
			}
		}
		if got != tc.field || (err == nil) != (tc.field == "") {
			t.Errorf("%+v: %v, want a fault in %q", tc.cfg, err, tc.field)
		}
	}
	if _, err := New(Config{Logger: slog.Default()}, Dependencies{}); err == nil {
		t.Error("a front without dependencies")
	}
}
