package producer

import (
	"log/slog"
	"strings"

	"github.com/copyfleet/copyfleet/producer/uploads"
	"github.com/copyfleet/copyfleet/protocol"
)

const uploadOfOneByte = `{"kind":"file","source_kind":"restartable_file","target_path":"/f","content_length":1,"checksum_algorithm":"sha256"`

// uploadAccesses are the rows of the routes of upload sessions.
func uploadAccesses() []access {
	const mine, box = "/v1/sandboxes/mine/", "/v1/sandboxes/box/"
	in := func(method, rest string, need Role, ok int, body string, header ...string) access {
		return access{
			method: method, route: "/v1/sandboxes/{id}/" + rest, need: need, own: mine + rest, ok: ok, others: []string{box + rest},
			missing: "/v1/sandboxes/none/" + rest, body: body, header: header,
		}
	}
	session := func(method, rest string, need Role, ok int, body string) access {
		const none = "uploads/upl_00000000000000000000000000"
		route, _, _ := strings.Cut(rest, "0")
		if route != rest {
			route += "{n}"
		}
		return access{
			method: method, route: "/v1/sandboxes/{id}/uploads/{upload_id}" + route, need: need, own: mine + "uploads/{own upload}" + rest, ok: ok,
			others:  []string{box + "uploads/{one upload}" + rest, mine + "uploads/{one upload}" + rest, box + "uploads/{own upload}" + rest},
			missing: mine + none + rest, body: body,
		}
	}
	return []access{
		in("GET", "uploads", RoleRead, 200, ""),
		in("POST", "uploads", RoleCopy, 201, uploadOfOneByte+"}", "Idempotency-Key", "k"),
		in("POST", "upload-url", RoleCopy, 200, `{"path":"/f"}`),
		session("GET", "", RoleRead, 200, ""),
		session("PUT", "/parts/0", RoleCopy, 400, "too long"),
		session("POST", "/complete", RoleCopy, 409, ""), // the part is missing
		session("DELETE", "", RoleCopy, 200, ""),
		// The token is the credential.
		{method: "PUT", route: "/v1/direct-uploads/{token}", own: "/v1/direct-uploads/x", ok: 404},
		{method: "POST", route: "/v1/direct-uploads/{token}", own: "/v1/direct-uploads/x", ok: 404},
	}
}

// takeUploads begins a session of each org, and returns what stands for them in paths.
func (x *tenants) takeUploads() (places []string) {
	x.Helper()
	shelf := &memoryStaging{parts: map[string]map[int]int64{}, whole: map[string][]byte{}}
	service, err := uploads.New(x.Context(), uploads.Config{Logger: slog.New(slog.DiscardHandler)}, x.conn, shelf, x.pipeline.UploadQueue())
	if err != nil {
		x.Fatal(err)
	}
	x.server.uploads = service
	for place, sandbox := range map[string]string{"{one upload}": "one/copy box", "{own upload}": "two/copy mine"} {
		key, sandbox, _ := strings.Cut(sandbox, " ")
		body := uploadOfOneByte + `}`
		if key == "one/copy" {
			body = uploadOfOneByte + `,"user":"` + marker + `"}`
		}
		made := x.call(key, "POST", "/v1/sandboxes/"+sandbox+"/uploads", body, "Idempotency-Key", "first").want(201, "")
		places = append(places, place, string(decode[sessionAnswer](made).Session.ID))
	}
	return places
}

// uploadUnharmed looks at the session of org one.
func (x *tenants) uploadUnharmed() {
	x.Helper()
	got := decode[sessionView](x.call("one/read", "GET", x.places.Replace("/v1/sandboxes/box/uploads/{one upload}"), "").want(200, ""))
	if got.Status != uploads.StatusCreated || got.User != marker || got.Kind != protocol.UploadFile {
		x.Errorf("the upload of org one is %+v", got)
	}
}
