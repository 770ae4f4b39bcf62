package transfer

import (
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestStoreRestartedInTheMiddleOfAnUpload kills the store while parts are uploaded, and starts it again.
func TestStoreRestartedInTheMiddleOfAnUpload(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Start(t), 2, small...)
	const size = 100 * mib
	file := served{content: content{3, size}, rate: 30 * mib}
	items := []item{{id: "upload", src: f.from("/upload"), dest: f.ToObject("upload.bin"), content: file.content}}
	f.give("/upload", file)
	id := f.submit(t, "attempts=10", items...)
	f.stored(t, id, 0, 4)
	f.minio.Kill()
	f.minio.Start()
	receipts := f.check(t, id, items...)
	if r := &receipts[0]; r.Method != protocol.MethodParts || len(r.Attempts) > 1 && r.ResumedFrom == 0 {
		t.Errorf("the method was %q, %d attempts, resumed from %d bytes", r.Method, len(r.Attempts), r.ResumedFrom)
	}
	// What was on its way to the store is read again: a dozen parts, each time.
	if given := f.file(items[0]).given.Load(); given > 3*size {
		t.Errorf("the source gave %d bytes of a file of %d", given, size)
	}
	t.Logf("1 item, 1 fault (store killed in the middle of an upload), 0 lost; %d bytes given, %d attempts", f.file(items[0]).given.Load(), len(receipts[0].Attempts))
}
