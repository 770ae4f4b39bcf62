package s3server

import (
	"fmt"
	"os"
	"sync"
)

// disk makes what was written durable, for many callers at once: those who come while a round runs share the next
// one, which begins after they came and so covers what they wrote.
type disk struct {
	root    *os.File // any file on the file system
	durable bool     // false: nothing is synced
	// How it is done; tests look from here.
	syncFile, syncAll func(*os.File) error

	mu      sync.Mutex
	running bool
	next    *round // the round that has not begun; nil if nobody waits
	rounds  sync.WaitGroup
}

type round struct {
	done chan struct{}
	err  error // read after done is closed
}

func openDisk(dir string, durable bool) (*disk, error) {
	root, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return &disk{root: root, durable: durable, syncFile: (*os.File).Sync, syncAll: syncFilesystem}, nil
}

// flush writes back one file.
func (d *disk) flush(f *os.File) error {
	if !d.durable {
		return nil
	}
	return d.syncFile(f)
}

// settle returns when everything that the caller did before is on disk. It cannot be interrupted: what waits is the
// answer to a request, and its change has happened.
func (d *disk) settle() error {
	if !d.durable {
		return nil
	}
	r := d.join()
	<-r.done
	return r.err
}

// join returns the next round, and sees to it that there will be one.
func (d *disk) join() *round {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next == nil {
		d.next = &round{done: make(chan struct{})}
	}
	if !d.running {
		d.running = true
		d.rounds.Go(d.work)
	}
	return d.next
}

// work runs rounds until nobody waits any more.
func (d *disk) work() {
	for {
		r := d.take()
		if r == nil {
			return
		}
		if err := d.syncAll(d.root); err != nil {
			r.err = fmt.Errorf("sync the file system of %s: %w", d.root.Name(), err)
		}
		close(r.done)
	}
}

// take begins the next round. Nobody joins it any more.
func (d *disk) take() *round {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.next
	d.next = nil
	d.running = r != nil
	return r
}

// close waits for the round that runs. No other call may follow.
func (d *disk) close() error {
	d.rounds.Wait()
	return d.root.Close()
}
