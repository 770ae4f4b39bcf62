package report

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/copyfleet/copyfleet/internal/bytesize"
	"github.com/copyfleet/copyfleet/loadtest/record"
)

// option is one of the options of a run.
type option struct{ Name, Value string }

const (
	mostOptions = 200  // of a file that anybody may have written
	mostDepth   = 8    // of options within options
	mostValue   = 4096 // bytes
)

// flat reads options, a JSON object, into names and values in the order in which they stand there: {"a":{"b":1}} is a.b=1. What is not JSON has one option
// without a name.
func flat(options json.RawMessage) []option {
	if len(bytes.TrimSpace(options)) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(options))
	decoder.UseNumber()
	var list []option
	if err := flatten(decoder, "", 0, &list); err != nil {
		text := string(options)
		return []option{{"", text[:min(len(text), mostValue)]}}
	}
	return list
}

func flatten(decoder *json.Decoder, name string, depth int, list *[]option) error {
	var raw json.RawMessage
	if depth >= mostDepth || len(*list) >= mostOptions {
		return decoder.Decode(&raw) //nolint:wrapcheck // decides only whether it is JSON
	}
	token, err := decoder.Token()
	if err != nil {
		return err //nolint:wrapcheck // as above
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return flattenObject(decoder, name, depth, list)
		}
		return flattenArray(decoder, name, depth, list)
	case json.Number:
		*list = append(*list, option{name, t.String()})
	case string:
		*list = append(*list, option{name, t})
	case bool:
		*list = append(*list, option{name, strconv.FormatBool(t)})
	}
	return nil
}

func flattenObject(decoder *json.Decoder, name string, depth int, list *[]option) error {
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return err //nolint:wrapcheck // as in flatten
		}
		inner, _ := key.(string)
		if name != "" {
			inner = name + "." + inner
		}
		if err := flatten(decoder, inner, depth+1, list); err != nil {
			return err
		}
	}
	_, err := decoder.Token()
	return err //nolint:wrapcheck // as in flatten
}

// flattenArray makes one value of what is in an array.
func flattenArray(decoder *json.Decoder, name string, depth int, list *[]option) error {
	var values []string
	for decoder.More() {
		var inner []option
		if err := flatten(decoder, "", depth+1, &inner); err != nil {
			return err
		}
		for _, o := range inner {
			if o.Name != "" {
				o.Value = o.Name + "=" + o.Value
			}
			values = append(values, o.Value)
		}
	}
	*list = append(*list, option{name, strings.Join(values, ",")})
	_, err := decoder.Token()
	return err //nolint:wrapcheck // as in flatten
}

// shown are the options that a report names beside the rest of its head: those that say something.
func shown(h *record.Header) []option {
	list := slices.DeleteFunc(flat(h.Options), func(o option) bool {
		return o.Value == "" || o.Value == "0" || o.Value == "false" || o.Name == "seed"
	})
	for i, o := range list {
		if n, err := strconv.ParseInt(o.Value, 10, 64); err == nil && n > 0 && (o.Name == "part_size" || o.Name == "max_bytes") {
			list[i].Value = bytesize.Size(n).String()
		}
	}
	return list
}
