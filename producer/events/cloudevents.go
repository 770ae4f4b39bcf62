package events

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// specVersion is the one version that is read.
const specVersion = event.CloudEventsVersionV1

// The most bytes of an attribute.
const maxAttribute = 8 << 10

// Members of a CloudEvent in JSON that are no attributes.
const (
	dataMember   = "data"
	base64Member = "data_base64"
)

// ParseCloudEvents reads CloudEvents over HTTP, or over NATS with the same headers, in binary, structured or batched mode. Header names may have any case.
// A text in JSON without headers that say otherwise is a structured event, or a batch: that is what NATS had before it had headers.
//
// The formats are CloudEvents 1.0.2, its JSON event format, and its bindings to HTTP and NATS. The CloudEvents SDK validates the attributes. It does not
// read the messages: it does not undo the percent-encoding of headers, takes the first of two headers and the last of two members, cuts fractions off,
// drops a dataschema that is no URI, and panics on data_base64 that is no string and on a header "ce-".
func ParseCloudEvents(header http.Header, body []byte) ([]Event, error) {
	if len(body) > MaxBody {
		return nil, tooLong()
	}
	h, err := readHeaders(header)
	if err != nil {
		return nil, err
	}
	mode, err := modeOf(h, body)
	if err != nil {
		return nil, err
	}
	var d decoder
	if mode == binaryMode {
		return one(d.binary(h, body))
	}
	root, err := d.decode("", body)
	if err != nil {
		return nil, err
	}
	if mode == structuredMode {
		return one(d.structured("", root))
	}
	batch, ok := root.([]any)
	switch {
	case !ok:
		return nil, malformed("", "must be a list of events, as its Content-Type says")
	case len(batch) > MaxEvents:
		return nil, tooMany("")
	}
	list := make([]Event, 0, len(batch))
	for i, member := range batch {
		e, err := d.structured("/"+strconv.Itoa(i), member)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

func one(e Event, err error) ([]Event, error) {
	if err != nil {
		return nil, err
	}
	return []Event{e}, nil
}

// binary reads an event whose attributes are headers, and whose data are the body.
func (d *decoder) binary(h headers, body []byte) (Event, error) {
	attributes, err := h.binary()
	if err != nil {
		return Event{}, err
	}
	e, err := cloudEvent("", attributes)
	if err != nil || len(body) == 0 {
		return e, err
	}
	e.Fields[dataMember], err = d.data("", contentOf(e), body, true)
	return e, err
}

// structured reads an event that is an object.
func (d *decoder) structured(at string, v any) (Event, error) {
	members, ok := v.(map[string]any)
	if !ok {
		return Event{}, malformed(at, "must be an object")
	}
	attributes := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		lower := strings.ToLower(name) // JSON event format, 2.3
		if _, twice := attributes[lower]; twice {
			return Event{}, malformed(at, "has an attribute twice, in different cases")
		}
		if name != dataMember && name != base64Member && members[name] != nil {
			attributes[lower] = members[name]
		}
	}
	e, err := cloudEvent(at, attributes)
	if err != nil {
		return e, err
	}
	data, there, err := d.member(at, members, contentOf(e))
	if there {
		e.Fields[dataMember] = data
	}
	return e, err
}

// member returns the data of a structured event, if it has some: a null says that it has none.
func (d *decoder) member(at string, members map[string]any, content string) (data any, there bool, err error) {
	data, encoded := members[dataMember], members[base64Member]
	switch {
	case data != nil && encoded != nil:
		return nil, false, malformed(at, "has both data and data_base64")
	case data != nil:
		if _, text := data.(string); !text && content != "" && !isJSON(content) {
			return nil, false, malformed(at+"/"+dataMember, "must be a string: datacontenttype is not JSON")
		}
		return data, true, nil
	case encoded == nil:
		return nil, false, nil
	}
	text, ok := encoded.(string)
	raw, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil {
		return nil, false, malformed(at+"/"+base64Member, "must be a string in base64 (RFC 4648, 4)")
	}
	data, err = d.data(at+"/"+base64Member, content, raw, false)
	return data, err == nil, err
}

// cloudEvent makes an event of attributes, whose names are in lower case: those of CloudEvents and extensions. Its fields are these.
func cloudEvent(at string, attributes map[string]any) (Event, error) {
	var wrong error
	m := members{at, attributes, &wrong}
	if version, there := attributes["specversion"]; !there || version != specVersion {
		return Event{}, malformed(at+"/specversion", `is required, and must be "1.0"`)
	}
	e := Event{
		Source:  CloudEvents,
		Type:    m.text("type", maxAttribute),
		ID:      m.text("id", maxAttribute),
		Origin:  m.text("source", maxAttribute),
		Subject: m.text("subject", maxAttribute),
		Size:    -1,
		Fields:  attributes,
	}
	if text := m.text("time", maxShort); text != "" {
		var err error
		// RFC 3339, 5.6: T and Z may be in lower case.
		if e.Time, err = time.Parse(time.RFC3339Nano, strings.ToUpper(text)); err != nil {
			m.fail("time", "must be a time (RFC 3339)")
		}
	}
	checked := event.New(specVersion)
	checked.SetID(e.ID)
	checked.SetType(e.Type)
	checked.SetSource(e.Origin)
	checked.SetSubject(e.Subject)
	checked.SetDataContentType(m.text("datacontenttype", maxAttribute))
	checked.SetDataSchema(m.text("dataschema", maxAttribute))
	m.extensions(&checked)
	for _, name := range attributeNames {
		if attributes[name] == "" { // as good as none
			delete(attributes, name)
		}
	}
	if wrong == nil {
		wrong = invalid(at, checked.Validate())
	}
	return e, wrong
}

var attributeNames = []string{"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"}

// extensions checks all attributes but those that CloudEvents knows.
func (m members) extensions(e *event.Event) {
	for _, name := range slices.Sorted(maps.Keys(m.in)) {
		if slices.Contains(attributeNames, name) {
			continue
		}
		value := m.in[name]
		switch v := value.(type) {
		case string:
			value = m.text(name, maxAttribute)
		case json.Number:
			n, err := strconv.ParseInt(string(v), 10, 32)
			if err != nil {
				m.fail(shortened(name), "must be a whole number of 32 bits")
			}
			value = int32(n)
		case bool:
		default:
			m.fail(shortened(name), "must be a string, a number or a boolean")
		}
		if name == dataMember || e.Context.SetExtension(name, value) != nil {
			m.fail(shortened(name), "must have a name of letters and digits that is not data")
		}
	}
}

// shortened keeps the name of a member to what a message bears.
func shortened(name string) string {
	if len(name) > 64 {
		name = strings.ToValidUTF8(name[:64], "") + "…"
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// attributeRules are the constraints of CloudEvents 1.0.2, 3.1.
var attributeRules = map[string]string{
	"id":              "is required, and must not be empty",
	"source":          "is required, and must be a URI-reference (RFC 3986)",
	"type":            "is required, and must not be empty",
	"datacontenttype": "must be a media type (RFC 2046)",
	"dataschema":      "must be an absolute URI (RFC 3986)",
}

// invalid tells what the SDK found. Its own words repeat values.
func invalid(at string, err error) error {
	found, ok := errors.AsType[event.ValidationError](err)
	if !ok {
		return err
	}
	name := slices.Min(slices.Collect(maps.Keys(found)))
	rule, ok := attributeRules[name]
	if !ok {
		rule = "is not valid"
	}
	return malformed(at+"/"+name, rule)
}
