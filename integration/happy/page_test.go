package happy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

// pageCalls are the calls of the published page that one of its kinds of client each makes: bodies as they stand there,
// with the host of the storage replaced.
var pageCalls = []struct{ name, body, answer string }{
	{"2.1 upload a local file to the sandbox", `{
    "files": [
      {
        "id": "upload-1",
        "src": {
          "type": "httpGetLocation",
          "url": "STORAGE/presigned-get-url"
        },
        "dest": {
          "type": "sandboxFileLocation",
          "path": "/home/agent/data.json"
        }
      }
    ]
  }`, `{"results":[{"id":"upload-1","success":true}]}`},
	{"2.2 download a sandbox file to local storage", `{
    "files": [
      {
        "id": "download-1",
        "src": {
          "type": "sandboxFileLocation",
          "path": "/home/agent/output.txt"
        },
        "dest": {
          "type": "httpPutLocation",
          "url": "STORAGE/presigned-put-url"
        }
      }
    ]
  }`, `{"results":[{"id":"download-1","success":true}]}`},
	{"5.2 download from an authenticated URL", `{
    "files": [
      {
        "id": "download-private-file",
        "src": {
          "type": "httpGetLocation",
          "url": "STORAGE/files/dataset.csv",
          "headers": {
            "Authorization": "Bearer your-token-here",
            "X-API-Key": "your-api-key"
          }
        },
        "dest": {
          "type": "sandboxFileLocation",
          "path": "/home/agent/data/dataset.csv"
        }
      }
    ]
  }`, `{"results":[{"id":"download-private-file","success":true}]}`},
	{"bulk file transfers", `{
    "files": [
      {
        "id": "file-1",
        "src": { "type": "httpGetLocation", "url": "STORAGE/file1.txt" },
        "dest": { "type": "sandboxFileLocation", "path": "/home/agent/file1.txt" }
      },
      {
        "id": "file-2",
        "src": { "type": "httpGetLocation", "url": "STORAGE/file2.json" },
        "dest": { "type": "sandboxFileLocation", "path": "/home/agent/file2.json" }
      },
      {
        "id": "file-3",
        "src": { "type": "httpGetLocation", "url": "STORAGE/file3.csv" },
        "dest": { "type": "sandboxFileLocation", "path": "/home/agent/data/file3.csv" }
      }
    ]
  }`, `{"results":[{"id":"file-1","success":true},{"id":"file-2","success":false,"error":"Failed to download file: 404 Not Found"},{"id":"file-3","success":true}]}`},
	{"using POST forms for uploads", `{
    "files": [
      {
        "id": "form-upload",
        "src": {
          "type": "sandboxFileLocation",
          "path": "/home/agent/report.pdf"
        },
        "dest": {
          "type": "httpPostFormLocation",
          "url": "STORAGE/your-bucket",
          "form": {
            "key": "uploads/report.pdf",
            "AWSAccessKeyId": "YOUR_ACCESS_KEY",
            "policy": "BASE64_ENCODED_POLICY",
            "signature": "CALCULATED_SIGNATURE"
          },
          "fileField": "file"
        }
      }
    ]
  }`, `{"results":[{"id":"form-upload","success":true}]}`},
}

// TestThePage plays the calls of the page and looks at what arrived where: content, headers and form fields.
func TestThePage(t *testing.T) {
	t.Parallel()
	f := up(t)
	s := newStore(t, map[string]string{"/presigned-get-url": "local data", "/files/dataset.csv": "a,b", "/file1.txt": "one", "/file3.csv": "three"})
	f.FromSandbox(t, "/home/agent/output.txt", []byte("output"))
	f.FromSandbox(t, "/home/agent/report.pdf", []byte("%PDF"))
	for _, call := range pageCalls {
		// As curl sends it.
		answer := post(t, f, map[string]string{"Authorization": "Bearer " + f.API.Key, "User-Agent": "curl/8.5.0", "Accept": "*/*"}, strings.ReplaceAll(call.body, "STORAGE", s.URL))
		if diff := cmp.Diff(decoded(t, []byte(call.answer)), decoded(t, answer.Body)); answer.Status != http.StatusOK || diff != "" {
			t.Errorf("%s: status %d (-want +got):\n%s", call.name, answer.Status, diff)
		}
	}
	for path, want := range map[string]string{"/home/agent/data.json": "local data", "/home/agent/data/dataset.csv": "a,b", "/home/agent/data/file3.csv": "three"} {
		if got, err := f.Arrived(t.Context(), &mixtest.Copy{Dest: mixtest.ToSandbox(path)}); string(got) != want {
			t.Errorf("%s holds %q, %v, want %q", path, got, err, want)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files["/presigned-put-url"] != "output" {
		t.Errorf("uploaded was %q", s.files["/presigned-put-url"])
	}
	if h := s.sent["/files/dataset.csv"]; h.Get("Authorization") != "Bearer your-token-here" || h.Get("X-Api-Key") != "your-api-key" {
		t.Errorf("the source was asked with %v", h)
	}
	want := map[string]string{"key": "uploads/report.pdf", "AWSAccessKeyId": "YOUR_ACCESS_KEY", "policy": "BASE64_ENCODED_POLICY", "signature": "CALCULATED_SIGNATURE", "file report.pdf": "%PDF"}
	if diff := cmp.Diff(want, s.forms["/your-bucket"]); diff != "" {
		t.Errorf("the form (-want +got):\n%s", diff)
	}
}

// TestShapesOfSDKs sends what the published SDKs put on the wire for the page's examples: the Go one leaves absent members
// out and reads "code" and "message" of a refusal, the Python one writes every member, the TypeScript one sends a Bearer.
func TestShapesOfSDKs(t *testing.T) {
	t.Parallel()
	f := up(t)
	s := newStore(t, map[string]string{"/file.txt": "file"})
	f.FromSandbox(t, "/in", []byte("in"))
	for i, row := range []struct {
		name          string
		header        map[string]string
		body, results string
	}{
		{"Go", map[string]string{"X-Api-Key": f.API.Key, "User-Agent": "Go-http-client/1.1", "Accept-Encoding": "gzip"},
			`{"files":[{"src":{"type":"httpGetLocation","url":"STORAGE/file.txt"},"dest":{"path":"/home/agent/0","type":"sandboxFileLocation"}}]}`,
			`{"results":[{"success":true}]}`},
		{"Python", map[string]string{"X-Api-Key": f.API.Key, "User-Agent": "python-httpx/0.28.1", "Accept-Encoding": "gzip, deflate"},
			`{"files":[{"id":null,"src":{"type":"httpGetLocation","url":"STORAGE/file.txt","headers":null},"dest":{"type":"sandboxFileLocation","path":"/home/agent/1"}},` +
				`{"id":"f","src":{"type":"sandboxFileLocation","path":"/in"},"dest":{"type":"httpPostFormLocation","url":"STORAGE/form","form":{},"fileField":"file","headers":null}}]}`,
			`{"results":[{"success":true},{"id":"f","success":true}]}`},
		{"TypeScript", map[string]string{"Authorization": "Bearer " + f.API.Key, "User-Agent": "node", "Sec-Fetch-Mode": "cors", "Accept-Language": "*"},
			`{"files":[{"id":"unique-identifier","src":{"type":"httpGetLocation","url":"STORAGE/file.txt"},"dest":{"type":"sandboxFileLocation","path":"/home/agent/2"}}]}`,
			`{"results":[{"id":"unique-identifier","success":true}]}`},
	} {
		answer := post(t, f, row.header, strings.ReplaceAll(row.body, "STORAGE", s.URL))
		if diff := cmp.Diff(decoded(t, []byte(row.results)), decoded(t, answer.Body)); answer.Status != http.StatusOK || diff != "" {
			t.Errorf("%s: status %d (-want +got):\n%s", row.name, answer.Status, diff)
		}
		path := fmt.Sprint("/home/agent/", i)
		if got, err := f.Arrived(t.Context(), &mixtest.Copy{Dest: mixtest.ToSandbox(path)}); string(got) != "file" {
			t.Errorf("%s: %s holds %q, %v", row.name, path, got, err)
		}
		refusal, _ := decoded(t, post(t, f, row.header, `{"files":[]}`).Body).(map[string]any)
		if code, _ := refusal["code"].(string); code != "invalid_request" || refusal["message"] == "" {
			t.Errorf("%s: a refusal is %v", row.name, refusal)
		}
	}
}

// post makes the copy call with a body as it is.
func post(t *testing.T, f *mixtest.Fleet, header map[string]string, body string) mixtest.Answer {
	t.Helper()
	url := f.API.URL + "/api/orgs/" + f.API.Org + "/sandboxes/" + f.Sandbox + "/file/copy"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return mixtest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: content}
}
