package deletion

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// CheckJSON says what is wrong with a text as JSON, repeated names included.
func CheckJSON(data []byte) error {
	var value jsontext.Value
	if err := json.Unmarshal(data, &value); err != nil {
		return jsonFault(data, err)
	}
	return nil
}

// encodings are what senders make of JSON without knowing.
var encodings = []struct{ begins, fault string }{
	{"\xef\xbb\xbf", "begins with a byte order mark: send UTF-8 without one"},
	{"\xff\xfe", "the JSON is UTF-16: send UTF-8"},
	{"\xfe\xff", "the JSON is UTF-16: send UTF-8"},
	{"{\x00", "the JSON is UTF-16: send UTF-8"},
	{"\x00{\x00", "the JSON is UTF-16: send UTF-8"},
	{"\x1f\x8b", "the JSON is compressed by gzip: send it uncompressed"},
	{"@\x06string\x08", "the JSON is a string that .NET wrapped in XML: send it as bytes"},
	{"<string ", "the JSON is a string that .NET wrapped in XML: send it as bytes"},
}

// jsonFault puts the decoder's error into the words of somebody who wrote the JSON and never saw this program.
func jsonFault(data []byte, err error) error {
	for _, e := range encodings {
		if bytes.HasPrefix(data, []byte(e.begins)) {
			return errors.New(e.fault)
		}
	}
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		syntactic, ok := errors.AsType[*jsontext.SyntacticError](err)
		switch {
		case ok && errors.Is(err, jsontext.ErrDuplicateName):
			return fmt.Errorf("%s: is there twice", field(syntactic.JSONPointer))
		case ok:
			return fmt.Errorf("not valid JSON at byte %d of %d: %s", syntactic.ByteOffset, len(data), printable(syntactic.Err.Error()))
		}
		return fmt.Errorf("not valid JSON: %s", printable(strings.TrimPrefix(err.Error(), "jsontext: ")))
	}
	name := field(semantic.JSONPointer)
	switch {
	case errors.Is(err, json.ErrUnknownName):
		return fmt.Errorf("%s: no such field", cmp.Or(name, `""`))
	case name == "":
		return fmt.Errorf("expected a JSON object with connectionId, found a JSON %s", kindWord(semantic.JSONKind))
	case semantic.GoType != nil && semantic.GoType.String() == "time.Time":
		return fmt.Errorf("%s: expected an RFC 3339 time such as 2026-01-31T08:00:00Z", name)
	default:
		return fmt.Errorf("%s: a JSON %s is not what belongs here; expected %s", name, kindWord(semantic.JSONKind), expected(semantic.GoType))
	}
}

// expected is a Go type in the words of JSON.
func expected(t reflect.Type) string {
	if t == nil {
		return "something else"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return expected(t.Elem())
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.Struct:
		return "an object"
	}
	return "text"
}

// field names a place in the JSON as its author would: /ticket/id is ticket.id.
func field(p jsontext.Pointer) string {
	return printable(strings.Join(slices.Collect(p.Tokens()), "."))
}

func kindWord(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "boolean"
	case '"':
		return "string"
	case '0':
		return "number"
	case '[':
		return "array"
	case '{':
		return "object"
	}
	return "value"
}
