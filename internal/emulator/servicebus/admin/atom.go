package admin

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	atomNamespace     = "http://www.w3.org/2005/Atom"
	schemaNamespace   = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"
	instanceNamespace = "http://www.w3.org/2001/XMLSchema-instance"
	typesNamespace    = "http://www.w3.org/2001/XMLSchema"
	countsNamespace   = "http://schemas.microsoft.com/netservices/2011/06/servicebus"
)

// An element is any XML element. Those that are read have their names and attributes resolved into namespace
// and local name; those that are written have the prefixes of the service in their local names, because some
// clients look for these very prefixes.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []element  `xml:",any"`
}

func node(name string, children ...element) element {
	return element{XMLName: xml.Name{Local: name}, Children: children}
}

func textElement(name, text string) element {
	return element{XMLName: xml.Name{Local: name}, Text: text}
}

// with adds an attribute.
func (e element) with(name, value string) element {
	e.Attrs = append(e.Attrs, xml.Attr{Name: xml.Name{Local: name}, Value: value})
	return e
}

func (e element) child(name string) (element, bool) {
	for _, c := range e.Children {
		if c.XMLName.Local == name {
			return c, true
		}
	}
	return element{}, false
}

// instanceType is the type that i:type gives, without its prefix.
func (e element) instanceType() string {
	for _, a := range e.Attrs {
		if a.Name.Space == instanceNamespace && a.Name.Local == "type" {
			return a.Value[strings.IndexByte(a.Value, ':')+1:]
		}
	}
	return ""
}

// described is the root of a description.
func described(name string, children ...element) element {
	return node(name, children...).with("xmlns", schemaNamespace).with("xmlns:i", instanceNamespace)
}

func entry(r *http.Request, path, title string, description element, created, updated time.Time) element {
	address := address(r, path)
	return node("entry",
		textElement("id", address),
		textElement("title", title).with("type", "text"),
		textElement("published", formatTime(created)),
		textElement("updated", formatTime(updated)),
		node("link").with("rel", "self").with("href", address),
		node("content", description).with("type", "application/xml"),
	).with("xmlns", atomNamespace)
}

func feed(r *http.Request, title string, entries []element) element {
	children := []element{
		textElement("title", title).with("type", "text"),
		textElement("id", address(r, strings.Trim(r.URL.Path, "/"))),
	}
	return node("feed", append(children, entries...)...).with("xmlns", atomNamespace)
}

func address(r *http.Request, path string) string {
	return fmt.Sprintf("https://%s/%s", r.Host, path)
}
