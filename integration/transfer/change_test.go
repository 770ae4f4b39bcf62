package transfer

import (
	"slices"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestSourceThatChangedIsCopiedAnew changes the sources while nobody runs them: what was stored of the old ones must not be mixed with
// the new.
func TestSourceThatChangedIsCopiedAnew(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t), 1, alone...)
	const size = 32 * mib
	gate := make(chan struct{})
	items := f.pair("changed", served{content: content{1, size}, holdAt: size * 3 / 4, gate: gate})
	defer close(gate)
	id := f.submit(t, "", items...)
	for n := range items {
		f.stored(t, id, n, 3)
	}
	f.workers[0].Kill9(t)
	for n := range items {
		items[n].content = content{2, size + 3*mib}
		f.give("/"+items[n].id, served{content: items[n].content})
	}
	f.startWorker(t)
	receipts := f.check(t, id, items...)
	for n := range receipts {
		if r := &receipts[n]; r.RestartReason != protocol.RestartSourceChanged || r.ResumedFrom != 0 {
			t.Errorf("item %s: restarted for %q, resumed from %d bytes", r.ID, r.RestartReason, r.ResumedFrom)
		}
	}
	t.Logf("%d items, %d faults (worker killed, sources changed), 0 lost", len(items), 2)
}

// TestSourceThatChangesInTheMiddle changes the sources while they are read. The parts that are asked for afterwards are of another file.
func TestSourceThatChangesInTheMiddle(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t), 2, small...)
	const size = 48 * mib
	items := f.pair("changes", served{content: content{1, size}, rate: 8 * mib})
	id := f.submit(t, "", items...)
	for n := range items {
		f.stored(t, id, n, 2)
		items[n].content = content{2, size}
		f.give("/"+items[n].id, served{content: items[n].content})
	}
	f.API.WaitFinal(t, id, settles)
	receipts, err := f.API.Receipts(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for n, i := range items {
		size, sum := f.arrived(t, i)
		switch r := &receipts[n]; {
		case r.State == protocol.ItemSucceeded && r.SHA256 == content{1, size}.sha256() && sum == r.SHA256: // a stream that began before it ends as it began
		case r.State == protocol.ItemSucceeded && r.SHA256 == i.content.sha256() && sum == r.SHA256 && r.RestartReason == protocol.RestartSourceChanged:
		case r.State == protocol.ItemFailed && r.Failure.Class == protocol.Corrupt && size < 0:
		default:
			t.Errorf("item %s: %s, %+v, restarted for %q; the destination holds %d bytes, %s", i.id, r.State, r.Failure, r.RestartReason, size, sum)
		}
	}
	f.nothingLeft(t, items...)
	t.Logf("%d items, 2 faults (sources changed while they were read), 0 lost", len(items))
}

// TestWhatCannotBeContinuedSaysSo has first attempts fail whose second ones must begin at the first byte.
func TestWhatCannotBeContinuedSaysSo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t), 1, append(slices.Clip(alone), mixtest.Steady)...)
	file := served{content: content{5, 3 * mib}}
	f.give("/plain", file)
	f.sink.refuse("/put", 1)
	f.sink.refuse("/post", 1)
	whole := file
	whole.whole, whole.cut = true, 1
	f.give("/whole", whole)
	f.give("/whole-object", whole)
	items := []item{
		{id: "put", src: f.from("/plain"), dest: putTo(f.sink.URL + "/put"), content: file.content},
		{id: "post", src: f.from("/plain"), dest: postTo(f.sink.URL + "/post"), content: file.content},
		{id: "whole", src: f.from("/whole"), dest: mixtest.ToSandbox("/out/whole.bin"), content: file.content},
		{id: "whole-object", src: f.from("/whole-object"), dest: f.ToObject("whole.bin"), content: file.content},
	}
	receipts := f.check(t, f.submit(t, "", items...), items...)
	for n, want := range []string{protocol.RestartNotPossible, protocol.RestartNotPossible, protocol.RestartNoRanges, protocol.RestartNoRanges} {
		if r := &receipts[n]; len(r.Attempts) != 2 || r.RestartReason != want || r.Method != protocol.MethodStream {
			t.Errorf("item %s: %d attempts, restarted for %q, method %q", r.ID, len(r.Attempts), r.RestartReason, r.Method)
		}
	}
	for _, path := range []string{"/put", "/post"} {
		if n := len(f.sink.at(path)); n != 1 {
			t.Errorf("%d uploads to %s were taken", n, path)
		}
	}
	t.Logf("%d items, 4 faults (first attempts refused, or cut), 0 lost", len(items))
}
