package bench

import (
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkDisk is the time of one fsync after 4 KiB were added to a file, where the temporary directory is. Every
// other figure with durability in it is to be read beside this one.
func BenchmarkDisk(b *testing.B) {
	file, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	block := make([]byte, fileSize)
	for b.Loop() {
		if _, err := file.Write(block); err != nil {
			b.Fatal(err)
		}
		if err := file.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}
