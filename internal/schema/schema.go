// Package schema helps to make JSON Schemas (2020-12) of Go types.
package schema

import (
	"reflect"

	"github.com/invopop/jsonschema"
)

// Descriptions say what fields are for, by "Type.Field".
type Descriptions map[string]string

// Of is the schema of a struct: the fields as they stand in JSON, which of them are required, and no others. A field whose type
// is in definitions refers to its name there.
func Of(v any, words Descriptions, definitions map[reflect.Type]string) *jsonschema.Schema {
	r := jsonschema.Reflector{
		Anonymous: true, DoNotReference: true,
		LookupComment: func(t reflect.Type, field string) string { return words[t.Name()+"."+field] },
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			if name, ok := definitions[t]; ok {
				return Ref(name)
			}
			return nil
		},
	}
	s := r.Reflect(v)
	s.Version = "" // the whole document's
	return s
}

// Ref refers to a definition.
func Ref(name string) *jsonschema.Schema { return &jsonschema.Schema{Ref: "#/$defs/" + name} }

// Refer has fields refer to definitions instead of what their Go types tell.
func Refer(s *jsonschema.Schema, field, definition string) {
	Field(s, field).Type, Field(s, field).Ref = "", Ref(definition).Ref
}

// Field is the schema of a field; nil if there is none.
func Field(s *jsonschema.Schema, name string) *jsonschema.Schema {
	f, _ := s.Properties.Get(name)
	return f
}

// With is met by an object that has this field, if the field meets a schema.
func With(name string, of *jsonschema.Schema) *jsonschema.Schema {
	s := &jsonschema.Schema{Properties: jsonschema.NewProperties(), Required: []string{name}}
	s.Properties.Set(name, of)
	return s
}

// WithOneOf is met by an object that has at least one of these fields.
func WithOneOf(names ...string) *jsonschema.Schema {
	s := new(jsonschema.Schema)
	for _, name := range names {
		s.AnyOf = append(s.AnyOf, &jsonschema.Schema{Required: []string{name}})
	}
	return s
}

// AnyOf is met by what meets one of these definitions.
func AnyOf(definitions ...string) *jsonschema.Schema {
	s := new(jsonschema.Schema)
	for _, name := range definitions {
		s.AnyOf = append(s.AnyOf, Ref(name))
	}
	return s
}
