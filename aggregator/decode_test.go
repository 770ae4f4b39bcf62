package aggregator

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/protocol"
)

func TestBundlesAreReadAsJSONDoes(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		``, `null`, `[]`, `{}`, `no JSON`, `{"v":2,"worker":"w","reports":null}`,
		`{"v":2,"unknown":{"a":[1]},"reports":[{"ref":{"o":"O","b":"B","i":3},"total":9,"lane":"bulk","receipt":{"index":3,"state":"failed","failure":{"class":"timeout","code":"x","message":"a\u2028\ud800b"},"attempts":[{"number":1,"worker":"w","start":"2026-01-02T03:04:05.000006Z","end":"2026-01-02T03:04:05+02:00","bytes":7}],"retry_at":"2026-01-02T03:04:05Z"}}]}`,
		`{"v":2,"worker":"w","reports":[{"ref":{"o":"O","b":"B","i":0},"total":1,"lane":"interactive","receipt":{"index":0,"state":"succeeded","unpacked":{"files":2,"bytes":3}}}],` +
			`"uploads":[{"o":"O","s":"S","u":"upl_1","m":"m","p":{"n":0,"size":4,"etag":"e","stored":"2026-01-02T03:04:05.000006Z","lost":true}}]}`,
		`{"v":2,"V":3,"worker":"a","worker":"b","reports":[]}`, // what only encoding/json takes
		"{\"v\":2,\"worker\":\"\xff\"}",
		`{"v":"2"}`,
	} {
		var want protocol.ReportBundle
		wantErr := json.Unmarshal([]byte(data), &want)
		got, err := decodeReports([]byte(data))
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%s: error %v, want %v", data, err, wantErr)
		}
		if diff := cmp.Diff(want, got); err == nil && diff != "" {
			t.Errorf("%s (-want +got):\n%s", data, diff)
		}
	}
}
