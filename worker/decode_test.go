package worker

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/copyfleet/copyfleet/protocol"
)

// agree checks that the decoder reads a message as encoding/json does, or refuses it as that does.
func agree(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, d *decoder, data []byte,
) {
	t.Helper()
	var got, want protocol.Work
	err, wantErr := d.decode(data, &got), json.Unmarshal(data, &want)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%s: error %v, encoding/json says %v", data, err, wantErr)
	}
	if diff := cmp.Diff(want, got); err == nil && diff != "" {
		t.Fatalf("%s (-encoding/json +ours):\n%s", data, diff)
	}
}

func TestWorkIsDecodedAsJSONDoes(t *testing.T) {
	t.Parallel()
	var d decoder // one for all, as in a worker
	rapid.Check(t, func(t *rapid.T) {
		w := protocol.Work{
			Version: rapid.IntRange(0, 3).Draw(t, "v"), Org: protocol.OrgID(rapid.SampledFrom([]string{"A", "B", "ü", `"`}).Draw(t, "org")), Batch: "b",
			Index: rapid.Int().Draw(t, "index"), Total: rapid.IntRange(0, 1e6).Draw(t, "total"), Lane: protocol.Bulk, Pool: "default", Shard: 3,
			Trace: rapid.String().Draw(t, "trace"), Generation: rapid.IntRange(0, 3).Draw(t, "generation"), Recheck: rapid.Bool().Draw(t, "recheck"),
		}
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			w.Sealed = []byte("sealed")
		case 1:
			w.Attempts = []protocol.Attempt{{Number: 1}}
		case 2:
			w.Kind, w.MaxAttempts, w.Fence = protocol.KindWebhook, 3, 7
		}
		data, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		agree(t, &d, data)
	})
}

func TestStrangeMessagesAreDecodedAsJSONDoes(t *testing.T) {
	t.Parallel()
	var d decoder
	for _, text := range []string{
		"", "{", "{}", " {}", "{} ", "{}x", "null", "[]", `{"v":2}`, `{"v": 2}`, `{"v":02}`, `{"v":-2}`, `{"v":2.0}`, `{"v":2e1}`, `{"v":}`, `{"v":"2"}`,
		`{"v":1234567890123456789}`, `{"v":12345678901234567890}`, `{"v":123456789012345678}`, `{"v":2,}`, `{,"v":2}`, `{"v":2"org":"a"}`, `{"V":2}`, `{"org":"a\u0041"}`,
		`{"org":"a` + "\n" + `"}`, `{"org":"ü"}`, "{\"org\":\"\xff\"}", `{"recheck":false}`, `{"recheck":true}`, `{"recheck":tru}`, `{"recheck":1}`, `{"other":{"v":3}}`, `{"org":"a`, `{"v":1,"v":2}`,
	} {
		agree(t, &d, []byte(text))
	}
}
