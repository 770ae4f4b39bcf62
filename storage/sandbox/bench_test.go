package sandbox_test

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/sandbox"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

// BenchmarkPut writes files of 4 KiB into one directory, from one and from sixteen goroutines a processor.
func BenchmarkPut(b *testing.B) {
	data := storagetest.Data(4096, 1)
	for _, syncing := range []bool{true, false} {
		for _, parallel := range []int{1, 16} {
			b.Run(fmt.Sprintf("sync=%t/goroutines=%d", syncing, parallel), func(b *testing.B) {
				place := newBench(b, sandbox.Options{Sync: syncing})
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				b.SetParallelism(parallel)
				var names atomic.Int64
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						d := place.destination("/out/" + strconv.FormatInt(names.Add(1), 10))
						if _, err := d.Put(b.Context(), storage.Content{Body: bytes.NewReader(data), Size: 4096}); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}

// BenchmarkRead reads a file of 4 KiB.
func BenchmarkRead(b *testing.B) {
	place := newBench(b, sandbox.Options{})
	place.write(b, "/in/f", storagetest.Data(4096, 1))
	buffer := make([]byte, 8192)
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		object, err := place.source("/in/f").Open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, object.Body, buffer); err != nil {
			b.Fatal(err)
		}
		_ = object.Body.Close()
	}
}
