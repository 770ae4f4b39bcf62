package transfer

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// TestMemoryDoesNotFollowTheSizeOfFiles moves files far larger than the memory that a worker may take for them.
func TestMemoryDoesNotFollowTheSizeOfFiles(t *testing.T) {
	t.Parallel()
	const slots, most = 4, 96 * mib // beyond what it took before
	f := newFleet(t, miniotest.Shared(t), 1, "SLOTS="+strconv.Itoa(slots), "PART_SIZE=16MiB", "SPREAD_AFTER=1s")
	warm := item{id: "warm", src: f.from("/warm"), dest: f.ToObject("warm.bin"), content: content{1, mib}}
	f.give("/warm", served{content: warm.content})
	f.check(t, f.submit(t, "", warm), warm)
	before := peak(t, f.workers[0])

	sparse := content{0, 3 << 30} // BenchmarkTransferMemory does it with 10 GiB; with the race detector that takes minutes
	f.give("/sparse", served{content: sparse})
	object := item{id: "object", src: f.from("/object"), dest: f.ToObject("large.bin"), content: content{0, 1 << 30}}
	f.give("/object", served{content: object.content})
	f.sink.discard("/sparse")
	id := f.submit(t, "", item{id: "sparse", src: f.from("/sparse"), dest: putTo(f.sink.URL + "/sparse"), more: map[string]any{"digest": "none"}}, object) // with the race detector a digest takes minutes
	f.API.WaitFinal(t, id, settles)
	receipts, err := f.API.Receipts(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if r := &receipts[0]; r.State != protocol.ItemSucceeded || r.Bytes != sparse.size || r.SHA256 != "" {
		t.Errorf("%s, %+v, %d bytes, %s", r.State, r.Failure, r.Bytes, r.SHA256)
	}
	if taken := f.sink.at("/sparse"); len(taken) != 1 || taken[0].size != sparse.size {
		t.Errorf("uploads: %+v", taken)
	}
	f.checkItem(t, &receipts[1], object)
	f.nothingLeft(t, object)
	if after := peak(t, f.workers[0]); after > before+most {
		t.Errorf("the worker took %d MiB, %d MiB before", after/mib, before/mib)
	} else {
		t.Logf("2 items of 4 GiB, 0 faults, 0 lost; the worker took at most %d MiB of memory, %d MiB before", after/mib, before/mib)
	}
}

// peak is the most memory that a process had.
func peak(t *testing.T, p *mixtest.Process) int64 {
	t.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == "VmHWM:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("the process has no peak of memory")
	return 0
}

func inParts(receipts []protocol.Receipt) int {
	n := 0
	for i := range receipts {
		if receipts[i].Method == protocol.MethodParts {
			n++
		}
	}
	return n
}
