package arm_test

import (
	"strings"
	"testing"

	"hsmsweep/internal/emulator/arm"
)

const goodSeed = `{"pools":[
  {"id":"` + poolID + `","location":"westeurope","publicNetworkAccess":"Disabled","tags":{"a":"b"},"conflicts":true,"denied":["Microsoft.KeyVault/locations/managedHsmOperationResults/read"],"connections":[
    {"name":"c1","status":"Disconnected","privateEndpointId":"` + endpointID + `","script":{"deletes":[
      {"status":429,"retryAfter":"2"},
      {"status":403,"body":""},
      {"hang":true},
      {"cut":true,"applied":true},
      {"status":202,"operation":{"header":"Azure-AsyncOperation","polls":3,"retryAfter":"date+5s","end":"Failed","code":"X","message":"y",
        "url":"https://evil.example/","keeps":true,"pollErrors":[{"status":503}]}},
      {"status":202,"operation":{"header":"none","seconds":0.5}}]}},
    {"name":"c2"}]}]}`

func TestSeed(t *testing.T) {
	s := arm.New(arm.Options{})
	if err := s.Seed(strings.NewReader(goodSeed)); err != nil {
		t.Fatal(err)
	}
	if !s.Exists(c1) || !s.Exists(c2) {
		t.Errorf("c1 exists: %v, c2 exists: %v", s.Exists(c1), s.Exists(c2))
	}
	expect(t, s, "DELETE", c1+version, answer{Status: 429, Code: "TooManyRequests", RetryAfter: "2"})
	expect(t, s, "DELETE", c1+version, answer{Status: 403})
	_, pool := do(t, s, "GET", poolID+version)
	for _, want := range []string{`"publicNetworkAccess":"Disabled"`, `"location":"westeurope"`, `"tags":{"a":"b"}`, endpointID} {
		if !strings.Contains(pool.Body.String(), want) {
			t.Errorf("the pool %s has no %s", pool.Body, want)
		}
	}
}

func TestSeedErrors(t *testing.T) {
	pool := func(rest string) string { return `{"pools":[{"id":"` + poolID + `"` + rest + `}]}` }
	script := func(answer string) string {
		return pool(`,"connections":[{"name":"c1","script":{"deletes":[` + answer + `]}}]`)
	}
	operation := func(fields string) string { return script(`{"status":202,"operation":{` + fields + `}}`) }
	tests := []struct {
		name, seed string
		wants      []string // parts of the error
	}{
		{"empty", ``, nil},
		{"trailing", `{"pools":[]} {}`, nil},
		{"unknown member", pool(`,"colour":"red"`), []string{"/pools/0", "colour"}},
		{"repeated member", pool(`,"location":"a","location":"b"`), []string{"/pools/0", "location"}},
		{"wrong type", pool(`,"conflicts":1`), []string{"/pools/0/conflicts"}},
		{"pool id", `{"pools":[{"id":"/x"}]}`, []string{`"/x"`, "id"}},
		{"escaped pool id", `{"pools":[{"id":"` + strings.Replace(poolID, "Pool-1", "Pool%2D1", 1) + `"}]}`, []string{"Pool%2D1", "id"}},
		{"pool twice", `{"pools":[{"id":"` + poolID + `"},{"id":"` + strings.ToLower(poolID) + `"}]}`, []string{strings.ToLower(poolID), "exists"}},
		{"access", pool(`,"publicNetworkAccess":"Off"`), []string{poolID, "publicNetworkAccess", "Off"}},
		{"location", pool(`,"location":"west europe"`), []string{poolID, "location", "west europe"}},
		{"denied", pool(`,"denied":["*"]`), []string{poolID, "denied", "*"}},
		{"connection name", pool(`,"connections":[{"name":"a/b"}]`), []string{poolID, "a/b", "name"}},
		{"connection twice", pool(`,"connections":[{"name":"a"},{"name":"A"}]`), []string{poolID, `"A"`, "twice"}},
		{"link state", pool(`,"connections":[{"name":"a","status":"Gone"}]`), []string{poolID, `"a"`, "status", "Gone"}},
		{"endpoint", pool(`,"connections":[{"name":"a","privateEndpointId":"pe"}]`), []string{poolID, `"a"`, "privateEndpointId"}},
		{"nothing scripted", script(`{}`), []string{poolID, `"c1"`, "deletes[0]", "status"}},
		{"status and hang", script(`{"status":200,"hang":true}`), []string{"exactly one"}},
		{"status", script(`{"status":503},{"status":301}`), []string{"deletes[1]", "301"}},
		{"retry after", script(`{"status":429,"retryAfter":"date+soon"}`), []string{"retryAfter", "date+soon"}},
		{"applied success", script(`{"status":200,"applied":true}`), []string{"applied"}},
		{"code of success", script(`{"status":200,"code":"X"}`), []string{"code"}},
		{"body and code", script(`{"status":409,"code":"X","body":""}`), []string{"body"}},
		{"operation of an error", script(`{"status":409,"operation":{}}`), []string{"operation", "202"}},
		{"header", operation(`"header":"Link"`), []string{"operation", "header", "Link"}},
		{"polls", operation(`"polls":-1`), []string{"polls"}},
		{"polls and seconds", operation(`"polls":1,"seconds":1`), []string{"only one"}},
		{"for ever", operation(`"seconds":1e300`), []string{"seconds"}},
		{"end", operation(`"end":"Done"`), []string{"end", "Done"}},
		{"url without header", operation(`"header":"none","url":"https://x"`), []string{"url"}},
		{"operation retry after", operation(`"retryAfter":"date"`), []string{"retryAfter"}},
		{"poll success", operation(`"pollErrors":[{"status":200}]`), []string{"pollErrors[0]"}},
		{"poll error", operation(`"pollErrors":[{"status":503},{"cut":true,"hang":true}]`), []string{"pollErrors[1]"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := arm.New(arm.Options{})
			err := s.Seed(strings.NewReader(test.seed))
			if err == nil {
				t.Fatalf("no error for %s", test.seed)
			}
			for _, want := range test.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not name %q", err, want)
				}
			}
		})
	}
}

func TestSeedIsAllOrNothing(t *testing.T) {
	s := arm.New(arm.Options{})
	bad := strings.TrimSuffix(goodSeed, "]}") + `,{"id":"/x"}]}`
	if err := s.Seed(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), `"/x"`) || s.Exists(c1) {
		t.Errorf("error %v, c1 exists: %v; want an error about /x and nothing added", err, s.Exists(c1))
	}
}

// What Seed accepts must be served without an internal error.
func FuzzSeed(f *testing.F) {
	f.Add(goodSeed)
	f.Add(`{"pools":[{"id":"` + poolID + `","connections":[{"name":"c1","script":{"deletes":[{"status":202}]}}]}]}`)
	f.Add(`{"pools":[]}`)
	f.Fuzz(func(t *testing.T, seed string) {
		s := arm.New(arm.Options{})
		if s.Seed(strings.NewReader(seed)) != nil {
			return
		}
		for _, target := range []string{poolID, c1, poolID + "/privateEndpointConnections"} {
			if got, recorder := do(t, s, "GET", target+version); got.Status != 200 && got.Status != 404 {
				t.Errorf("GET %s: %d %s", target, got.Status, recorder.Body)
			}
		}
	})
}
