package nulls3

import (
	"bufio"
	"bytes"
	"errors"
	"strconv"
)

// What a request asks for.
const (
	other = iota
	put
	get
	head
	remove
	post
	methods
)

// request is what matters of the head of a request.
type request struct {
	method  int
	length  int64
	expects bool   // "100-continue"
	answer  []byte // nil: an object
}

var errSpeech = errors.New("the request is of a form that this server does not read")

// readHead reads the lines of a request up to its body.
func readHead(in *bufio.Reader) (request, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return request{}, err
	}
	verb, rest, _ := bytes.Cut(line, []byte(" "))
	target, _, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return request{}, errSpeech
	}
	req := understand(verb, target)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return request{}, err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			return req, nil
		}
		if err := req.header(line); err != nil {
			return request{}, err
		}
	}
}

func (r *request) header(line []byte) error {
	name, value, _ := bytes.Cut(line, []byte(":"))
	switch {
	case len(name) == len("content-length") && bytes.EqualFold(name, []byte("content-length")):
		n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
		if err != nil || n < 0 {
			return errSpeech
		}
		r.length = n
	case len(name) == len("transfer-encoding") && bytes.EqualFold(name, []byte("transfer-encoding")):
		return errSpeech
	case len(name) == len("expect") && bytes.EqualFold(name, []byte("expect")):
		r.expects = true
	}
	return nil
}

// understand tells what is asked for, and how that is answered.
func understand(verb, target []byte) request {
	path, query, _ := bytes.Cut(target, []byte("?"))
	has := func(name string) bool { return len(query) > 0 && bytes.Contains(query, []byte(name)) }
	switch string(verb) {
	case "PUT":
		return request{method: put, answer: stored}
	case "GET":
		switch {
		case has("location"):
			return request{method: get, answer: location}
		case has("versions"):
			return request{method: get, answer: noVersions}
		case has("list-type"), !has("uploads") && bytes.Count(path, []byte("/")) < 2:
			return request{method: get, answer: noObjects}
		case has("uploads"):
			return request{method: get, answer: noUploads}
		}
		return request{method: get}
	case "HEAD":
		return request{method: head}
	case "DELETE":
		return request{method: remove, answer: removed}
	case "POST":
		switch {
		case has("delete"):
			return request{method: post, answer: allRemoved}
		case has("uploadId"):
			return request{method: post, answer: completed}
		}
		return request{method: post, answer: begun}
	}
	return request{method: other, answer: notUnderstood}
}

const (
	etag   = `ETag: "d41d8cd98f00b204e9800998ecf8427e"` + "\r\n"
	xmlns  = ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`
	xmlTop = `<?xml version="1.0" encoding="UTF-8"?>`
)

// The answers, whole.
var (
	goOn       = []byte("HTTP/1.1 100 Continue\r\n\r\n")
	stored     = []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + etag + "\r\n")
	removed    = []byte("HTTP/1.1 204 No Content\r\n\r\n")
	location   = xml("200 OK", `<LocationConstraint`+xmlns+`</LocationConstraint>`)
	noObjects  = xml("200 OK", `<ListBucketResult`+xmlns+`<KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>`)
	noVersions = xml("200 OK", `<ListVersionsResult`+xmlns+`<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListVersionsResult>`)
	noUploads  = xml("200 OK", `<ListMultipartUploadsResult`+xmlns+`<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>`)
	allRemoved = xml("200 OK", `<DeleteResult`+xmlns+`</DeleteResult>`)
	begun      = xml("200 OK", `<InitiateMultipartUploadResult`+xmlns+`<Bucket>b</Bucket><Key>k</Key><UploadId>1</UploadId></InitiateMultipartUploadResult>`)
	completed  = xml("200 OK", `<CompleteMultipartUploadResult`+xmlns+`<Bucket>b</Bucket><Key>k</Key><ETag>"1-1"</ETag></CompleteMultipartUploadResult>`)
	busy       = xml("503 Service Unavailable", `<Error><Code>SlowDown</Code><Message>Please reduce your request rate</Message></Error>`)
	busyHead   = []byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
	garbage    = []byte("\x00\x01\x02 this is no answer\r\n\r\n")

	notUnderstood = []byte("HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

	zeros = make([]byte, bufferBytes)
)

func xml(status, text string) []byte {
	text = xmlTop + text
	return []byte("HTTP/1.1 " + status + "\r\nContent-Type: application/xml\r\nContent-Length: " + strconv.Itoa(len(text)) + "\r\n\r\n" + text)
}

// objectHead is the head of an answer that has an object, or would have it.
func objectHead(size int64) []byte {
	b := make([]byte, 0, 256)
	b = append(b, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n"+etag+"Content-Length: "...)
	b = strconv.AppendInt(b, size, 10)
	return append(b, "\r\n\r\n"...)
}
