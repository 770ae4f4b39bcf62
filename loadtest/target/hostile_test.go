package target_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/record"
	"github.com/copyfleet/copyfleet/loadtest/target"
	"github.com/copyfleet/copyfleet/loadtest/workload"
	"github.com/copyfleet/copyfleet/storage/object"
)

func against(t *testing.T, answer http.HandlerFunc) *target.S3 {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return newS3(t, target.S3Config{
		Endpoints: []object.RawConfig{{Endpoint: server.URL, AccessKey: "a", SecretKey: "a-secret"}}, Bucket: "bucket", Prefix: "copyfleet-bench/r1/",
	})
}

// An object of which more comes than was written is wrong, and is not read to an end that it may not have.
func TestObjectWithoutEnd(t *testing.T) {
	t.Parallel()
	s := against(t, func(w http.ResponseWriter, _ *http.Request) {
		for err := error(nil); err == nil; {
			_, err = w.Write(make([]byte, 64<<10))
		}
	})
	result := s.Do(t.Context(), &workload.Op{Kind: workload.Get, Object: workload.Object{Size: 100 << 10}})
	if f := result.Fault; f == nil || f.Code != "wrong_length" || result.Down {
		t.Errorf("%+v", f)
	}
}

// Whatever a store says of an error, the file of the run can be read.
func TestErrorsWithoutMeasure(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(">", 60_000) // each is six bytes of JSON
	s := against(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "<Error><Code>"+long+"</Code></Error>")
	})
	var kept bytes.Buffer
	file, err := record.NewWriter(&kept, &record.Header{})
	if err != nil {
		t.Fatal(err)
	}
	recorder := record.NewRecorder(0, file)
	load := workload.NewLoad(workload.Config{Mix: workload.Only(workload.Put), Sizes: sizes(t, "1KiB"), Count: 3})
	loadtest.Run(t.Context(), &loadtest.Plan{Load: load, Concurrency: 1, Grace: time.Minute}, s, recorder)
	totals, err := recorder.Totals()
	if err != nil {
		t.Fatal(err)
	}
	if f := totals.Faults[0]; f.Count != 3 || len(f.Fault.Code) > 400 || len(f.Fault.Message) > 400 {
		t.Errorf("%d errors, a code of %d bytes, a message of %d", f.Count, len(f.Fault.Code), len(f.Fault.Message))
	}
	if err := file.Close(""); err != nil {
		t.Fatal(err)
	}
	if _, err := record.Sum(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(kept.Bytes())), nil }, record.Cut{}); err != nil {
		t.Error(err)
	}
}
