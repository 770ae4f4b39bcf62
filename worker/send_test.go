package worker

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/copyfleet/copyfleet/internal/hosts"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// TestAFileThatNobodyDigestsIsSent holds a copy from file to file to what is expected of it, with digests and without. It visits no host that
// would limit it, as items of a worker do.
func TestAFileThatNobodyDigestsIsSent(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789"), 200_000)
	for _, row := range []struct {
		digest protocol.Digest
		expect protocol.Expect
		sent   bool
		code   string
	}{
		{protocol.DigestSHA256, protocol.Expect{}, false, ""},
		{protocol.DigestNone, protocol.Expect{}, true, ""},
		{protocol.DigestNone, protocol.Expect{Size: new(int64(len(data)))}, true, ""},
		{protocol.DigestNone, protocol.Expect{Size: new(int64(1))}, true, "source_size_mismatch"},
		{protocol.DigestNone, protocol.Expect{MD5: "d41d8cd98f00b204e9800998ecf8427e"}, false, "source_md5_mismatch"},
	} {
		b := newBench(t)
		if err := os.MkdirAll(b.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.dir, "from"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		tr := transfer{
			org: "ORG", src: inSandbox("/from"), dest: inSandbox("/to"), temp: "t", digest: row.digest, expect: row.expect,
			fence: func() error { return nil }, visit: visiting(t, hosts.Config{}, ""),
		}
		object, err := b.copier.open(t.Context(), tr, b.copier.source(tr), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, sent := newMeter(tr, object).reader().(storage.FileSender); sent != row.sent {
			t.Errorf("%s, %+v: sent is %t", row.digest, row.expect, sent)
		}
		if err := object.Body.Close(); err != nil {
			t.Error(err)
		}
		came, err := b.copier.copy(t.Context(), tr)
		if row.code != "" {
			if f, _ := explain(err); err == nil || f.Code != row.code {
				t.Errorf("%s, %+v: %v, want %s", row.digest, row.expect, err, row.code)
			}
			continue
		}
		got, _ := b.file("to")
		if err != nil || !bytes.Equal(got, data) || came.read != int64(len(data)) || (came.sha256 != "") == row.sent || !came.verified {
			t.Errorf("%s, %+v: %+v, %v; %d bytes", row.digest, row.expect, came, err, len(got))
		}
	}
}
