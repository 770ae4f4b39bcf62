package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
)

// smallDisk returns a directory on a file system of its own of a few MiB. Only root may mount one; others get a limit on
// the size of files, which stops the store in the same way but cannot be lifted again.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		if os.Geteuid() == 0 {
			t.Fatal(err)
		}
		return ""
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDiskIsReportedAndSurvived(t *testing.T) {
	t.Parallel()
	const least = 4 << 20
	dir := smallDisk(t, 24<<20)
	if dir == "" {
		refusesEarly(t)
		return
	}
	srv, err := broker.StartServer(broker.ServerConfig{Dir: filepath.Join(dir, "nats"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	conn, err := broker.Connect(broker.Config{Server: srv, Name: t.Name(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := srv.Room(least); err != nil {
		t.Fatalf("an empty disk has no room: %v", err)
	}
	bucket, err := conn.Bucket(t.Context(), broker.BatchBucket)
	if err != nil {
		t.Fatal(err)
	}
	// Somebody else fills the disk up to the last byte.
	ballast := filepath.Join(dir, "ballast")
	if err := fill(ballast); err != nil {
		t.Fatal(err)
	}
	if err := srv.Room(least); !errors.Is(err, broker.ErrNoSpace) {
		t.Errorf("on a full disk: %v, want ErrNoSpace", err)
	}
	stored := 0
	for ; stored < 64; stored++ {
		if _, err := bucket.Put(t.Context(), fmt.Sprintf("key%d", stored), make([]byte, 64<<10)); err != nil {
			break
		}
	}
	if stored == 64 {
		t.Fatal("the full disk took everything")
	}
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { defer close(watched); srv.Watch(ctx, least) }()
	defer func() { stop(); <-watched }()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	// What was acknowledged is there, and writing works again, without anybody's help.
	eventually(t, func() bool { return srv.Room(least) == nil && conn.Ready(t.Context()) == nil })
	eventually(t, func() bool { _, err := bucket.Put(t.Context(), "after", []byte("x")); return err == nil })
	for i := range stored {
		if _, err := bucket.Get(t.Context(), fmt.Sprintf("key%d", i)); err != nil {
			t.Errorf("an acknowledged write is lost: %v", err)
		}
	}
}

// refusesEarly checks the half that needs no mount: a limit above what any disk has.
func refusesEarly(t *testing.T) {
	t.Helper()
	srv, err := broker.StartServer(broker.ServerConfig{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	if err := srv.Room(1 << 62); !errors.Is(err, broker.ErrNoSpace) {
		t.Errorf("below the limit: %v, want ErrNoSpace", err)
	}
}

// fill writes a file until the disk takes no more.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for block := make([]byte, 64<<10); err == nil; _, err = f.Write(block) {
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(4 * time.Minute)
	defer limit.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatal("it did not come to that within a minute")
		}
	}
}
