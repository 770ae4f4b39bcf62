package target_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/loadtest/target"
	"github.com/copyfleet/copyfleet/loadtest/workload"
	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/object"
)

func TestFleetConfigs(t *testing.T) {
	t.Parallel()
	store := target.S3Config{Endpoints: []object.RawConfig{{Endpoint: "http://127.0.0.1:1", AccessKey: "a", SecretKey: "bbbbbbbb"}}, Bucket: "b", Prefix: "p/", Payload: workload.NewPayload(1, 0)}
	for want, cfg := range map[string]target.FleetConfig{
		"no credentials":               {URL: "http://user:secret@x/", Key: "k", Store: store},
		"no query":                     {URL: "http://x/?token=secret", Key: "k", Store: store},
		"must be an http or https URL": {URL: "ftp://user:secret@x/", Key: "k", Store: store},
		"takes an API key":             {URL: "http://x", Store: store},
		"was not copied whole":         {URL: "http://x", Key: "secret key", Store: store},
		"they have 1000 at most":       {URL: "http://x", Key: "k", Batch: 1001, Store: store},
		"the ids of an org":            {URL: "http://x", Key: "k", Org: "a/b", Store: store},
		"and a sandbox have 1 to 128":  {URL: "http://x", Key: "k", Sandbox: "../x", Store: store},
		"a load needs an endpoint":     {URL: "http://x", Key: "k"},
	} {
		if _, err := target.NewFleet(&cfg); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// What keeps a fleet from copying is said before a run, with what may be done about it.
func TestCheckSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	sandbox, plan := "PUT /v1/sandboxes/copyfleet-bench", newBatch
	known := text(http.StatusOK, `{"org":"ORG-1"}`)
	for name, c := range map[string]struct {
		answers map[string]http.HandlerFunc
		class   storage.Class
		says    string
	}{
		"all is well": {answers: map[string]http.HandlerFunc{sandbox: known, plan: text(200, `{"items":[{"action":"copy","problems":[]}]}`)}},
		"overwrites":  {answers: map[string]http.HandlerFunc{sandbox: known, plan: text(200, `{"items":[{"action":"overwrite","problems":[]}]}`)}},
		"no right":    {map[string]http.HandlerFunc{sandbox: func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "forbidden", "no") }}, storage.Denied, "needs the role copy"},
		"no grant": {map[string]http.HandlerFunc{sandbox: known, plan: func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "bucket_not_granted", "no") }},
			storage.Denied, "copyfleet orgs grant ORG-1 bench/copyfleet-bench/"},
		"no worker": {map[string]http.HandlerFunc{sandbox: known, plan: func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "no_worker", "none") }},
			storage.Unavailable, "Start a worker"},
		"other store": {map[string]http.HandlerFunc{sandbox: known, plan: text(200, `{"items":[{"action":"fail","problems":[
			{"severity":"note","class":"internal","code":"x","message":"by the way"},{"severity":"error","class":"not_found","code":"object_not_found","message":"not there"}]}]}`)},
			storage.NotFound, "--s3-endpoint"},
		"no time":      {map[string]http.HandlerFunc{sandbox: known, plan: text(200, `{"items":[{"action":"unknown","problems":[{"severity":"warning","class":"timeout","code":"plan_timeout","message":"no time"}]}]}`)}, storage.Timeout, ""},
		"another site": {map[string]http.HandlerFunc{sandbox: text(200, "hello")}, storage.Invalid, "Copyfleet API"},
		"no org":       {map[string]http.HandlerFunc{sandbox: text(200, "{}")}, storage.Invalid, "Copyfleet API"},
		"no plan":      {map[string]http.HandlerFunc{sandbox: known, plan: text(200, `{"items":[]}`)}, storage.Invalid, "Copyfleet API"},
	} {
		err := newAPI(t, c.answers).target(t, nil).Check(t.Context())
		e, is := errors.AsType[*storage.Error](err)
		switch {
		case c.class == 0 && err == nil:
		case !is || e.Class != c.class || !strings.Contains(e.Hint, c.says) || strings.Contains(err.Error(), apiKey):
			t.Errorf("%s: %v, %+v", name, err, e)
		}
	}
}
