package deletion

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/invopop/jsonschema"

	"hsmsweep/internal/schema"
	"hsmsweep/internal/schema/schematest"
)

// judge judges by one of the definitions.
func judge(t *testing.T, name string) func(body []byte) error {
	return schematest.Compile(t, &jsonschema.Schema{Version: jsonschema.Version, Ref: schema.Ref(name).Ref, Definitions: Definitions()})
}

func TestDescriptions(t *testing.T) { schematest.Described(t, descriptions, body{}, Ticket{}) }

// TestFieldNames has the fields by which a request is known, which must be all.
func TestFieldNames(t *testing.T) {
	s := Definitions()["request"]
	if s.Properties.Len() != len(fieldNames) {
		t.Errorf("a request has %d fields, %d are known", s.Properties.Len(), len(fieldNames))
	}
	for _, name := range fieldNames {
		if schema.Field(s, name) == nil {
			t.Errorf("a request has no field %s", name)
		}
	}
}

// odd are runes at the edges of what rules allow, and beyond.
const odd = "\x00\n\r\t .-_/\\%#?&'\"(){}azAZ09kKsS\u007f\u0085\u00a0\u00ad\u00b2\u00b5\u00e9\u00df\u017f\u0131\u0301\u0430\u0660\u1680\u2003\u200b\u2028\u2029\u202e\u2011\u212a\ufb01\ufeff\uff0f\uff10\U0001F600\U0001D7D8"

// TestIDPatterns has ids with every character replaced, added to and taken away. Pattern and parser agree on each.
func TestIDPatterns(t *testing.T) {
	for _, tt := range []struct {
		definition, id string
		parse          func(string) error
	}{
		{"connectionId", connection, func(id string) error { _, err := ParseConnectionID(id); return err }},
		{"privateEndpointId", endpoint, func(id string) error { _, err := ParseEndpointID(id); return err }},
		{"managedHsmId", pool, func(id string) error { _, err := ParsePoolID(id); return err }},
	} {
		pattern := regexp.MustCompile(Definitions()[tt.definition].Pattern)
		agree := func(id string) {
			if err := tt.parse(id); pattern.MatchString(id) != (err == nil) {
				t.Errorf("%s %q: the parser says %v, the pattern %t", tt.definition, id, err, pattern.MatchString(id))
			}
		}
		for i := range len(tt.id) + 1 {
			before, rest := tt.id[:i], tt.id[i:]
			after := rest[min(1, len(rest)):]
			agree(before)
			agree(before + after)
			agree(before + strings.ToUpper(rest))
			for _, r := range odd {
				agree(before + string(r) + rest)
				agree(before + string(r) + after)
			}
		}
		for _, id := range []string{connection, endpoint, pool, "", "/"} {
			agree(id)
			agree(id + tt.id)
		}
	}
}

// TestBoundedRules has names of every length around the longest, and of every letter.
func TestBoundedRules(t *testing.T) {
	for _, r := range []rule{subscriptionName, groupName, poolName, connectionName, endpointName} {
		bounded := regexp.MustCompile("^" + r.bounded() + "$")
		agree := func(name string) {
			if err := r.check(name); bounded.MatchString(name) != (err == nil) {
				t.Errorf("%s %q: the rule says %v, the pattern %t", r.of, name, err, bounded.MatchString(name))
			}
		}
		for n := range r.longest + 3 {
			agree(strings.Repeat("a", n))
			agree(strings.Repeat("é", n))
			agree(strings.Repeat("a", n) + ".")
		}
		for c := range rune(0x3100) {
			agree("a" + string(c) + "a")
			agree(string(c) + "aa")
			agree("aa" + string(c))
		}
	}
}

// TestRequestIDPattern agrees with the check of request ids, on every character, alone and among others.
func TestRequestIDPattern(t *testing.T) {
	s := schema.Field(Definitions()["request"], "requestId")
	pattern := regexp.MustCompile(s.Pattern)
	agree := func(id string) {
		n := uint64(utf8.RuneCountInString(id))
		if err := checkRequestID(id); (pattern.MatchString(id) && n >= *s.MinLength && n <= *s.MaxLength) != (err == nil) {
			t.Errorf("%q: the check says %v, the pattern %t", id, err, pattern.MatchString(id))
		}
	}
	for c := range rune(0x10000) {
		agree(string(c))
		agree("a" + string(c))
		agree(" " + string(c) + " ")
	}
	for n := range 130 {
		agree(strings.Repeat("é", n))
	}
}

// TestRequestSchema has every pair of these values for two fields. Schema and decoder agree on each request.
func TestRequestSchema(t *testing.T) {
	q := func(texts ...string) []string {
		for i := range texts {
			text, _ := json.Marshal(texts[i])
			texts[i] = string(text)
		}
		return texts
	}
	values := map[string][]string{
		"connectionId":      q(connection, strings.ToUpper(connection), pool, "pec"),
		"privateEndpointId": append(q(endpoint, connection, ""), "null", "1"),
		"managedHsmId":      append(q(pool, ""), "null", "[]"),
		"status":            {`["Approved"]`, `["pENDING","Rejected","Rejected"]`, `[]`, `["Gone"]`, `"Approved"`, `null`, `[null]`, `[""]`, `["Disconnected "]`},
		"requestId":         append(q("R-1", "", " ", "a\nb", strings.Repeat("é", 128), strings.Repeat("é", 129)), "7"),
		"reason":            append(q("", "because\n"), "1"),
		"requestedBy":       append(q("ann"), "{}"),
		"ticket":            {`{}`, `{"id":"1","system":"","url":"x"}`, `{"ID":"1"}`, `{"id":1}`, `"CHG1"`, `[]`},
		"notBefore": append(q("2026-01-31T08:00:00Z", "2026-01-31T08:00:00.123456789+05:30", "2024-02-29T00:00:00-00:00", "2026-02-29T00:00:00Z", "2026-01-31T08:00:00", "2026-01-31",
			"2026-01-31 08:00:00Z", "2026-01-31T24:00:00Z", "2026-12-31T23:59:60Z", "2026-01-31T08:00:00,5Z", "2026-01-31T08:00Z", "2026-01-31t08:00:00z", "2026-01-31T08:00:00+24:00",
			"1970-01-02T00:00:00Z", "1969-12-30T00:00:00Z", "2999-12-30T00:00:00Z", "3000-01-02T00:00:00Z", "9999-12-31T23:59:59Z", "12026-01-31T08:00:00Z", "2026-13-01T00:00:00Z", ""), "1769846400", "null"),
		"dryRun":  {`true`, `false`, `"true"`, `1`, `null`},
		"force":   {`true`, `false`, `"yes"`, `[]`},
		"Force":   {`true`},
		"unknown": {`1`},
	}
	valid := judge(t, "request")
	agree := func(fields string) {
		_, err := DecodeRequest([]byte("{" + fields + "}"))
		if told := valid([]byte("{" + fields + "}")); (told == nil) != (err == nil) {
			t.Errorf("{%s}: the decoder says %v, the schema %v", fields, err, told)
		}
	}
	agree("")
	for name, of := range values {
		for _, value := range of {
			field := fmt.Sprintf("%q:%s", name, value)
			agree(field)
			for other, of := range values {
				for _, value := range of {
					if other != name {
						agree(fmt.Sprintf("%s,%q:%s", field, other, value))
					}
				}
			}
		}
	}
}

// TestWhatIsNoRequest has data of events. What the schema takes for something else than a request must not look like one.
func TestWhatIsNoRequest(t *testing.T) {
	silent := judge(t, "notRequest")
	for data, want := range map[string]bool{
		`{}`: true, `null`: true, `1`: true, `"payments is gone"`: true, `[]`: true, `{"application":{"status":"retired"}}`: true, `["a",{"b":["c"]}]`: true,
		`{"status":1}`: false, `{"STATUS":1}`: false, "{\"\u017ftatus\":1}": false, "{\"tic\u212aet\":1}": false, `{"dryRun":true,"a":1}`: false,
		`"dryrun=true"`: false, `["a",{"b":["reason"]}]`: false, `[{"a":{"NOTBEFORE":1}}]`: false, `"{\"connectionId\":\"x\"}"`: false,
	} {
		if err := silent([]byte(data)); (err == nil) != want {
			t.Errorf("%s: %v, want that it is something else: %t", data, err, want)
		}
		if object := strings.HasPrefix(data, "{"); object && LooksLikeRequest([]byte(data)) == want || !object && MentionsRequest([]byte(data)) == want {
			t.Errorf("%s: the decoder does not agree", data)
		}
	}
}
