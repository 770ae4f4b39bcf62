package attempts

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/copyfleet/copyfleet/storage"
	httpstore "github.com/copyfleet/copyfleet/storage/http"
	"github.com/copyfleet/copyfleet/storage/sandbox"
)

const benchBytes = 4096

// canned is an HTTP server that answers everything with the same 4 KiB and does nothing else.
func canned(b *testing.B) string {
	b.Helper()
	listener, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = listener.Close() })
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: application/octet-stream\r\n\r\n", benchBytes)
	answer = append(answer, make([]byte, benchBytes)...)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn, answer)
		}
	}()
	return "http://" + listener.Addr().String()
}

func serve(conn net.Conn, answer []byte) {
	defer conn.Close()
	for r := bufio.NewReader(conn); ; {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		if len(line) > 2 {
			continue
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// BenchmarkFile copies 4 KiB from an HTTP server to a sandbox with the drivers alone: no queue, no worker.
func BenchmarkFile(b *testing.B) {
	for _, sync := range []bool{false, true} {
		b.Run(fmt.Sprint("sync=", sync), func(b *testing.B) {
			url := canned(b)
			client := httpstore.NewClient(httpstore.Options{})
			b.Cleanup(client.Close)
			store, err := sandbox.Open(b.TempDir(), sandbox.Options{Sync: sync})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = store.Close() })
			next := make(chan int)
			b.ReportAllocs()
			b.SetBytes(benchBytes)
			b.SetParallelism(16)
			go func() {
				defer close(next)
				for i := range b.N {
					next <- i
				}
			}()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := <-next
					if err := copyFile(b.Context(), client, store, fmt.Sprint(url, "/file-", i), fmt.Sprint("/in/", i/1000, "/", i), i); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func copyFile(ctx context.Context, client *httpstore.Client, store *sandbox.Store, url, path string, i int) error {
	object, err := client.Get(url, nil).Open(ctx)
	if err != nil {
		return err
	}
	defer object.Body.Close()
	_, err = store.Destination("ORG", "s", path, fmt.Sprint("t", i), nil).Put(ctx, storage.Content{Body: object.Body, Size: object.Size, Ready: func() error { return nil }})
	return err
}
