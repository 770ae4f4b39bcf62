package transfer

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// TestSizesAroundPartsAndNamesOfEveryKind copies files of nothing, of one byte, of a byte more and less than a part, between all kinds of places,
// and files whose names have whatever a name may have.
func TestSizesAroundPartsAndNamesOfEveryKind(t *testing.T) {
	t.Parallel()
	f := newFleet(t, miniotest.Shared(t), 2, "PART_THRESHOLD=1MiB", "PART_SIZE=1MiB", "SPREAD_AFTER=1ms", "SLOTS=8")
	const least = 5 * mib // of a part of an object
	var items []item
	for _, size := range []int64{0, 1, mib - 1, mib, mib + 1, 2*mib + 1, least - 1, least, least + 1, 2 * least, 2*least + 1} {
		items = append(items, f.everywhere(t, fmt.Sprint("size-", size), content{7, size})...)
	}
	for n, name := range []string{
		"with blank", "ünïcödé-文件-🙂", "100%25 sure?#frag", "a+b&c=d;e,f", `quote"back\slash'tick`, "[brackets]{braces}<angles>|", "~tilde$dollar!", "-dash", "trailing.",
		"e\u0301 and \u00e9", strings.Repeat("n", 240),
	} {
		items = append(items, f.everywhere(t, fmt.Sprintf("names %d/%s", n, name), content{uint64(n + 10), mib + 1})...)
	}
	receipts := f.check(t, f.submit(t, "", items...), items...)
	t.Logf("%d items, 0 faults, 0 lost; %d of them in parts", len(items), inParts(receipts))
}

// everywhere copies a file from each kind of source to each kind of destination.
func (f *fleet) everywhere(t *testing.T, name string, c content) []item {
	t.Helper()
	escaped := (&url.URL{Path: "/" + name}).EscapedPath()
	f.give("/"+name, served{content: c})
	onDisk := f.OnDisk("/in/" + name)
	if err := os.MkdirAll(filepath.Dir(onDisk), 0o777); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(onDisk)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := io.Copy(file, c.reader()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client(t).PutObject(t.Context(), f.Bucket, "in/"+name, c.reader(), c.size, minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	sources := map[string]map[string]any{
		"http": f.from(escaped), "sandbox": mixtest.ToSandbox("/in/" + name), "object": f.ToObject("in/" + name),
	}
	var items []item
	for from, src := range sources {
		for to, dest := range map[string]map[string]any{
			"sandbox": mixtest.ToSandbox("/out/" + from + "/" + name), "object": f.ToObject("out/" + from + "/" + name), "put": putTo(f.sink.URL + "/" + from + escaped),
		} {
			items = append(items, item{id: fmt.Sprintf("%s-%s-%.40s", from, to, strings.ToValidUTF8(name[:min(len(name), 40)], "")), src: src, dest: dest, content: c})
		}
	}
	return items
}
