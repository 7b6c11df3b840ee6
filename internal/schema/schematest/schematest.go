// Package schematest judges bodies by the JSON Schemas that the program prints.
package schematest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	generated "github.com/invopop/jsonschema"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"hsmsweep/internal/schema"
)

// Compile makes a judge of a schema: what a body must be besides is one JSON value without repeated names. Formats count.
func Compile(t testing.TB, s *generated.Schema) func(body []byte) error {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return func(body []byte) error {
		if !jsontext.Value(body).IsValid() { // which knows repeated names
			return fmt.Errorf("not a JSON value: %q", body)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err != nil {
			return err
		}
		return compiled.Validate(value)
	}
}

// Described compares descriptions with structs: each field has one, and there are no others.
func Described(t testing.TB, words schema.Descriptions, structs ...any) {
	t.Helper()
	fields := map[string]bool{}
	for _, v := range structs {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			fields[reflect.TypeOf(v).Name()+"."+f.Name] = true
		}
	}
	for field := range fields {
		if words[field] == "" {
			t.Errorf("%s has no description", field)
		}
	}
	for field := range words {
		if !fields[field] {
			t.Errorf("%s is described and does not exist", field)
		}
	}
}
