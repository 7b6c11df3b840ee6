package deletion

import (
	"net/url"
	"testing"

	"go.opentelemetry.io/otel/attribute"
)

// TestTold has URLs of operations: nothing of their queries is told but the API's version.
func TestTold(t *testing.T) {
	for text, want := range map[string]string{
		"https://management.azure.com/a/b?api-version=2021-10-01":              "https://management.azure.com/a/b?api-version=2021-10-01",
		"https://management.azure.com/a/b?api-version=1&kv-operation=secret":   "https://management.azure.com/a/b?api-version=1",
		"https://management.azure.com/a?sig=secret#secret":                     "https://management.azure.com/a",
		"https://user:secret@management.azure.com/a":                           "https://management.azure.com/a",
		"https://management.azure.com/a%2Fb?api-version=x%26sig%3Dsecret&y=%z": "https://management.azure.com/a/b?api-version=x%26sig%3Dsecret",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := told(u); got != want {
			t.Errorf("%s is told as %s, want %s", text, got, want)
		}
	}
}

// TestPeer has hosts and ports that an operation's URL may name: of those without number few become labels.
func TestPeer(t *testing.T) {
	home, _ := url.Parse("https://management.azure.com")
	trusted := trust{arm: home, allowed: []string{"poll.example", "other.example:8443"}}
	for text, want := range map[string]string{
		"https://management.azure.com/x":        "management.azure.com:443",
		"https://MANAGEMENT.azure.com/x":        "management.azure.com:443",
		"https://eastus.management.azure.com/x": "*.management.azure.com:443",
		"https://a.b.management.azure.com/x":    "*.management.azure.com:443",
		"https://poll.example/x":                "poll.example:443",
		"https://poll.example:1234/x":           "poll.example:",
		"https://other.example:8443/x":          "other.example:8443",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		labels := attribute.NewSet(trusted.peer(u)...)
		host, _ := labels.Value("server.address")
		port, _ := labels.Value("server.port")
		if got := host.AsString() + ":" + port.String(); got != want {
			t.Errorf("%s is labelled %s, want %s", text, got, want)
		}
	}
}
