package storagetest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/copyfleet/copyfleet/storage"
	"github.com/copyfleet/copyfleet/storage/memory"
	"github.com/copyfleet/copyfleet/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// flawEnv names the flaw of the driver that TestDriver checks. Without it the driver is sound.
const flawEnv = "COPYFLEET_TEST_FLAW"

// TestSuiteCatches shows for each check of the suite that it fails when it should: a child runs the suite on a driver
// with one flaw and must report it there.
func TestSuiteCatches(t *testing.T) {
	for _, c := range []struct{ flaw, check string }{
		{"ready twice", "Destination/Size4096"},
		{"ready never", "Destination/Size4096"},
		{"ready early", "Destination/Size4096"},
		{"ready before end", "Destination/Size4096"},
		{"ready ignored", "Destination/ReadyRefuses"},
		{"ready unwrapped", "Destination/ReadyRefuses"},
		{"visible early", "Destination/HiddenUntilReady"},
		{"tail kept", "Destination/Overwrite"},
		{"last byte lost", "Destination/Size1048579"},
		{"leftover", "Destination/BodyFailsMidway"},
		{"body error hidden", "Destination/BodyFailsMidway"},
		{"body error taken for the end", "Destination/BodyFailsBeforeLastByte"},
		{"wrapped end taken for the end", "Destination/BodyFailsWithWrappedEnd"},
		{"unclassified", "Destination/BodyFailsUnclassified"},
		{"length unchecked", "Destination/Short"},
		{"length unchecked", "Destination/Long"},
		{"context ignored", "Destination/CanceledMidway"},
		{"writers mixed", "Destination/Concurrent"},
		{"names folded", "Destination/Names"},
		{"source short", "Source/Size4096"},
		{"source size wrong", "Source/Size4096"},
		{"source keeps its offset", "Source/OpenedAgain"},
		{"source context ignored", "Source/CanceledMidway"},
		{"source missing unclassified", "Source/Missing"},
	} {
		t.Run(c.flaw, func(t *testing.T) {
			half, _, _ := strings.Cut(c.check, "/")
			// rapid would write the failure it finds to testdata.
			child := exec.Command(os.Args[0], "-test.run=^TestDriver$/^"+half+"$", "-rapid.nofailfile")
			child.Env = append(os.Environ(), flawEnv+"="+c.flaw)
			out, err := child.CombinedOutput()
			if _, failed := errors.AsType[*exec.ExitError](err); !failed || !strings.Contains(string(out), "--- FAIL: TestDriver/"+c.check) {
				t.Errorf("the flaw was not caught by %s: %v\n%s", c.check, err, out)
			}
		})
	}
}

// TestDriver runs the suite on a driver with the flaw that the environment names, and with none otherwise.
func TestDriver(t *testing.T) {
	flaw := os.Getenv(flawEnv)
	storagetest.Run(t, storagetest.Harness{
		Features:  storagetest.Features{Source: true, Destination: true},
		NewSource: func(_ *testing.T, data []byte) storage.Source { return &flawedSource{data: data, flaw: flaw} },
		Missing: func(*testing.T) storage.Source {
			if flaw == "source missing unclassified" {
				return &memory.Source{FailOpen: io.ErrUnexpectedEOF}
			}
			return memory.Missing()
		},
		NewTarget: func(*testing.T) storagetest.Target { return (&flawedPlace{flaw: flaw}).target() },
		NamedTarget: func(_ *testing.T, name string) storagetest.Target {
			if flaw == "names folded" && strings.Contains(name, " ") {
				return (&flawedPlace{flaw: "last byte lost"}).target()
			}
			return (&flawedPlace{flaw: flaw}).target()
		},
	})
}

// flawedSource is a memory source with a flaw.
type flawedSource struct {
	data   []byte
	flaw   string
	shared *bytes.Reader
}

func (s *flawedSource) Open(ctx context.Context) (*storage.Object, error) {
	m := memory.NewSource(s.data)
	switch s.flaw {
	case "source short":
		m.Data, m.Lacks, m.Unchecked = s.data[:len(s.data)/2], len(s.data)-len(s.data)/2, true
	case "source size wrong":
		m.Lacks, m.Unchecked = 1, true
	case "source context ignored":
		ctx = context.WithoutCancel(ctx)
	case "source keeps its offset":
		if s.shared == nil {
			s.shared = bytes.NewReader(s.data)
		}
		return &storage.Object{Body: io.NopCloser(s.shared), Size: int64(len(s.data))}, nil
	}
	return m.Open(ctx)
}

// flawedPlace is a place and its driver. Without a flaw it is a sound one, told once more in few lines.
type flawedPlace struct {
	flaw    string
	mu      sync.Mutex
	content []byte
	exists  bool
	left    []string
}

func (p *flawedPlace) target() storagetest.Target {
	return storagetest.Target{
		Destination: func() storage.Destination { return p },
		Read: func(*testing.T) ([]byte, bool) {
			p.mu.Lock()
			defer p.mu.Unlock()
			return bytes.Clone(p.content), p.exists
		},
		Leftovers: func(*testing.T) []string { return p.left },
	}
}

func (p *flawedPlace) NeedsSize() bool { return false }

func (p *flawedPlace) Put(ctx context.Context, content storage.Content) (storage.Stored, error) {
	if p.flaw == "ready early" || p.flaw == "ready twice" {
		_ = content.Ready()
	}
	data, err := p.receive(ctx, content)
	if err == nil {
		err = p.ask(content)
	}
	if err != nil {
		if p.flaw == "leftover" {
			p.left = append(p.left, "hidden")
		}
		return storage.Stored{}, err
	}
	if p.flaw == "last byte lost" && len(data) > 0 {
		data = data[:len(data)-1]
	}
	p.show(data)
	return storage.Stored{Bytes: int64(len(data))}, nil
}

// ask asks Ready.
func (p *flawedPlace) ask(content storage.Content) error {
	if content.Ready == nil || slices.Contains([]string{"ready never", "ready early", "ready before end"}, p.flaw) {
		return nil
	}
	err := content.Ready()
	switch {
	case err == nil || p.flaw == "ready ignored":
		return nil
	case p.flaw == "ready unwrapped":
		return storage.Errorf(storage.Conflict, "flawed", "commit", "it", "%s", err.Error())
	}
	return err
}

// show makes data visible.
func (p *flawedPlace) show(data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flaw == "tail kept" && len(p.content) > len(data) {
		data = append(bytes.Clone(data), p.content[len(data):]...)
	}
	p.content, p.exists = bytes.Clone(data), true
}

// receive reads the content and checks its length.
func (p *flawedPlace) receive(ctx context.Context, content storage.Content) ([]byte, error) {
	var data []byte
	buffer := make([]byte, 32<<10)
	for {
		if ctx.Err() != nil && p.flaw != "context ignored" {
			return nil, p.wrap(context.Cause(ctx))
		}
		n, err := content.Body.Read(buffer)
		data = append(data, buffer[:n]...)
		if p.flaw == "ready before end" && n > 0 && int64(len(data)) == content.Size {
			_ = content.Ready()
		}
		if p.flaw == "visible early" {
			p.show(data)
		}
		if p.flaw == "writers mixed" && n > 0 {
			p.mu.Lock()
			p.content = append(p.content, buffer[:n]...)
			data = p.content
			p.mu.Unlock()
		}
		if p.ended(err) {
			return data, p.checkLength(int64(len(data)), content.Size)
		}
		if err != nil {
			return nil, p.wrap(err)
		}
	}
}

func (p *flawedPlace) ended(err error) bool {
	switch p.flaw {
	case "body error taken for the end":
		return err != nil
	case "wrapped end taken for the end":
		return errors.Is(err, io.EOF)
	}
	return err == io.EOF //nolint:errorlint // what the suite is to catch is the confusion with an error that wraps it
}

func (p *flawedPlace) checkLength(n, size int64) error {
	if size == storage.UnknownSize || n == size || slices.Contains([]string{"length unchecked", "writers mixed"}, p.flaw) {
		return nil
	}
	return storage.Errorf(storage.Corrupt, "flawed", "write", "it", "%d of %d bytes came", n, size)
}

func (p *flawedPlace) wrap(err error) error {
	if _, ok := errors.AsType[*storage.Error](err); ok && p.flaw != "body error hidden" || p.flaw == "unclassified" {
		return err
	}
	return &storage.Error{Class: storage.Interrupted, Code: "flawed", Op: "write", Subject: "it", Message: "it failed", Err: err}
}
