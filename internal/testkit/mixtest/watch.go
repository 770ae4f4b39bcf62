package mixtest

import (
	"os"
	"sync"
	"testing"
	"time"
)

// Watch looks at the sandbox destinations of a batch all the time, until the returned function is called: a file that
// can be seen must be whole. The function returns how many different files were seen.
func (w *World) Watch(t testing.TB, batch Batch) (stop func() int) {
	t.Helper()
	want := map[string]string{} // digest, by file
	for _, c := range batch {
		if path, ok := c.Dest["path"].(string); ok {
			want[w.OnDisk(path)] = SHA256(c.Content)
		}
	}
	quit, seen := make(chan struct{}), make(chan int)
	go func() {
		last := map[string]os.FileInfo{}
		files := 0
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			for name, digest := range want {
				files += look(t, name, digest, last)
			}
			select {
			case <-quit:
				seen <- files
				return
			case <-tick.C:
			}
		}
	}()
	stop = sync.OnceValue(func() int { close(quit); return <-seen })
	t.Cleanup(func() { stop() })
	return stop
}

const watchEvery = 3 * time.Millisecond

// look reads a file that was not read before, and returns 1 if there was one.
func look(t testing.TB, name, digest string, last map[string]os.FileInfo) int {
	file, err := os.Open(name)
	if err != nil {
		return 0
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || last[name] != nil && os.SameFile(last[name], info) && last[name].Size() == info.Size() {
		return 0
	}
	content := make([]byte, info.Size())
	if _, err := file.ReadAt(content, 0); err != nil && info.Size() > 0 || SHA256(content) != digest {
		t.Errorf("a file was visible that is not whole: %s, %d bytes, %v", name, info.Size(), err)
	}
	last[name] = info
	return 1
}
