package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// fakeAPI answers as a test says, and remembers what it was asked.
type fakeAPI struct {
	*httptest.Server

	mu    sync.Mutex
	asked []string
}

func newFakeAPI(t *testing.T, serve http.HandlerFunc) *fakeAPI {
	t.Helper()
	f := &fakeAPI{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.asked = append(f.asked, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Last-Event-ID"))
		f.mu.Unlock()
		serve(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeAPI) log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.asked...)
}

func (f *fakeAPI) client(t *testing.T) *client {
	t.Helper()
	c, err := clientFlags{URL: f.URL, APIKey: "k"}.client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

func viewOf(state protocol.BatchState, ended int) string {
	return fmt.Sprintf(`{"id":"bat_1","state":%q,"total":3,"counts":{"succeeded":%d,"failed":%d}}`, state, min(ended, 2), max(ended-2, 0))
}

// follows watches bat_1 and returns what was printed.
func follows(t *testing.T, f *fakeAPI) (printed, told string, err error) {
	t.Helper()
	var out, complaints bytes.Buffer
	env := &environment{stdout: &out, stderr: &complaints}
	w := &follow{api: f.client(t), id: "bat_1", view: newView(env)}
	err = w.run(t.Context())
	return out.String(), complaints.String(), err
}

func exitOf(err error) int {
	if err == nil {
		return exitOK
	}
	return fail(io.Discard, false, err)
}

// A stream that breaks off is opened again from the last id, and where there is none the batch is asked for.
func TestFollowBreaks(t *testing.T) {
	t.Parallel()
	var streams, looks int
	f := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/events") {
			if looks++; looks == 2 {
				http.Error(w, "away", http.StatusBadGateway)
				return
			}
			fmt.Fprint(w, viewOf(protocol.BatchRunning, 1))
			return
		}
		streams++
		w.Header().Set("Content-Type", "text/event-stream")
		switch streams {
		case 1:
			fmt.Fprintf(w, "id: 5\nevent: batch\ndata: %s\n\nid: 6\nevent: batch\ndata: {\"id\":", viewOf(protocol.BatchRunning, 1))
		case 2:
			http.Error(w, `{"code":"busy","message":"Busy."}`, http.StatusServiceUnavailable)
		default:
			fmt.Fprintf(w, ": here\n\nevent: item\ndata: {\"index\":1}\n\nid: 9\nevent: batch\ndata: %s\n\n", viewOf(protocol.BatchCompletedWithErrors, 3))
		}
	})
	out, told, err := follows(t, f)
	if exitOf(err) != exitFailed {
		t.Errorf("ended with %v", err)
	}
	want := "bat_1 running: 1 of 3 items\nbat_1 completed_with_errors: 2 succeeded, 1 failed, 0 B\n"
	if out != want {
		t.Errorf("printed\n%swant\n%s", out, want)
	}
	if !strings.Contains(told, "waiting for it") {
		t.Errorf("it was not told that the API was away: %q", told)
	}
	log := strings.Join(f.log(), "\n")
	for _, ask := range []string{"GET /v1/batches/bat_1/events \n", "GET /v1/batches/bat_1/events 5"} {
		if !strings.Contains(log+"\n", ask) {
			t.Errorf("was not asked %q:\n%s", ask, log)
		}
	}
}

func TestFollowEnds(t *testing.T) {
	t.Parallel()
	for state, exit := range map[protocol.BatchState]int{
		protocol.BatchSucceeded: exitOK, protocol.BatchCompletedWithErrors: exitFailed, protocol.BatchFailed: exitFailed,
		protocol.BatchCanceled: exitCanceled, protocol.BatchPaused: exitTemporary,
	} {
		for _, streams := range []bool{true, false} {
			f := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
				now := protocol.BatchRunning
				if streams == strings.HasSuffix(r.URL.Path, "/events") {
					now = state
				}
				switch {
				case !strings.HasSuffix(r.URL.Path, "/events"):
					fmt.Fprint(w, viewOf(now, 3))
				case streams:
					fmt.Fprintf(w, "id: 1\nevent: batch\ndata: %s\n\n", viewOf(now, 3))
				default:
					http.NotFound(w, r)
				}
			})
			if _, _, err := follows(t, f); exitOf(err) != exit {
				t.Errorf("%s, streams %v: ended with %v, want %d", state, streams, err, exit)
			}
		}
	}
}

func TestFollowRefused(t *testing.T) {
	t.Parallel()
	for status, exit := range map[int]int{404: exitNotFound, 401: exitDenied, 403: exitDenied, 500: exitTemporary, 302: exitUsage} {
		f := newFakeAPI(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		if _, _, err := follows(t, f); exitOf(err) != exit {
			t.Errorf("status %d: ended with %v, want %d", status, err, exit)
		}
	}
	// A key that is revoked meanwhile ends the wait.
	looked := false
	f := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
		if looked || strings.HasSuffix(r.URL.Path, "/events") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		looked = true
		fmt.Fprint(w, viewOf(protocol.BatchRunning, 1))
	})
	if _, _, err := follows(t, f); exitOf(err) != exitDenied {
		t.Errorf("a revoked key: ended with %v", err)
	}
}

func TestFollowInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	f := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/events") {
			fmt.Fprint(w, viewOf(protocol.BatchRunning, 1))
			return
		}
		fmt.Fprint(w, ": here\n\n")
		_ = http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
	})
	env := &environment{stdout: io.Discard, stderr: io.Discard}
	w := &follow{api: f.client(t), id: "bat_1", view: newView(env)}
	err := w.run(ctx)
	e, ok := errors.AsType[*exitError](err)
	if !ok || e.code != exitCanceled || !strings.Contains(e.hint, "watch bat_1") {
		t.Errorf("ended with %v", err)
	}
}

// What was not answered is sent again under the same key; what was refused is not.
func TestInsist(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		status []int // of the answers, in turn; 0: the connection breaks
		exit   int
		asked  int
	}{
		{"at once", []int{202}, exitOK, 1}, {"busy", []int{503, 429, 202}, exitOK, 3}, {"broken", []int{0, 202}, exitOK, 2}, {"refused", []int{400, 202}, exitUsage, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := 0
			keys := map[string]int{}
			f := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				keys[r.Header.Get("Idempotency-Key")+" "+string(body)]++
				status := row.status[n]
				n++
				if status == 0 || err != nil {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(status)
				fmt.Fprint(w, viewOf(protocol.BatchQueued, 0))
			})
			var out, told bytes.Buffer
			env := &environment{stdin: strings.NewReader("https://x/1,/1\n"), stdout: &out, stderr: &told}
			cmd := submitCmd{clientFlags: clientFlags{URL: f.URL, APIKey: "k"}, File: "-", Detach: true}
			err := cmd.Run(t.Context(), env)
			if exitOf(err) != row.exit || n != row.asked || len(keys) != 1 {
				t.Errorf("ended with %v after %d tries with %v; want %d after %d", err, n, keys, row.exit, row.asked)
			}
			if err == nil && out.String() != "bat_1\n" {
				t.Errorf("printed %q", out.String())
			}
		})
	}
}

func TestSkew(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 10, 9e8, time.UTC)
	for theirs, want := range map[int]time.Duration{10: 0, 11: 0, 12: 1e8, 9: -time.Second, 70: 58*time.Second + 1e8} {
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(theirs) * time.Second)
		if got := skewOf(at, start, time.Second); got != want {
			t.Errorf("the other clock at :%d: skew %s, want %s", theirs, got, want)
		}
	}
}
