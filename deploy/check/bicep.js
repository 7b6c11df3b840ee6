// As much of Bicep as deploy/*.bicep is written in: files are parsed by a real grammar, and evaluated for given parameters into the
// resources that would be asked for. What only Azure knows (ids of principals, keys) becomes text between ‹ and ›. This is not Bicep's
// compiler: it knows no types, so that what is wrong with those is for the other checks here, or for `az bicep build`, to find.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { Language, Parser } from 'web-tree-sitter'

const require = createRequire(import.meta.url)
await Parser.init()
const parser = new Parser()
parser.setLanguage(await Language.load(require.resolve('tree-sitter-bicep/tree-sitter-bicep.wasm')))

/** parse returns a file's declarations, or throws where the grammar does. */
export function parse(file, rewrite = text => text) {
  const text = rewrite(readFileSync(file, 'utf8'))
  const root = parser.parse(text).rootNode
  const wrong = root.descendantsOfType('ERROR')[0] ?? missing(root)
  if (wrong || root.hasError) {
    const { row, column } = (wrong ?? root).startPosition
    throw new SyntaxError(`${file}:${row + 1}:${column + 1}: ${(wrong ?? root).text.split('\n')[0]}`)
  }
  // The grammar wants no commas, Bicep does between what stands in one line.
  for (const list of root.descendantsOfType(['array', 'object'])) {
    list.namedChildren.forEach((child, i, all) => {
      const before = all[i - 1]
      if (before && before.endPosition.row === child.startPosition.row && !text.slice(before.endIndex, child.startIndex).includes(',')) {
        throw new SyntaxError(`${file}:${child.startPosition.row + 1}: no comma before ${child.text.split('\n')[0]}`)
      }
    })
  }
  return root.namedChildren
}

function missing(node) {
  if (node.isMissing) return node
  for (const child of node.children) {
    const found = missing(child)
    if (found) return found
  }
}

/** parameters evaluates a .bicepparam file, whose assignments the grammar does not know: they are read as variables. */
export function parameters(file, environment) {
  const names = [...readFileSync(file, 'utf8').matchAll(/^param (\w+) =/gm)].map(([, name]) => name)
  const scope = new Scope(file, {}, environment)
  for (const node of parse(file, text => text.replace(/^using .*$/m, '').replace(/^param (\w+) =/gm, 'var $1 ='))) {
    if (node.type === 'variable_declaration') scope.define(node.namedChildren[0].text, () => scope.value(node.namedChildren.at(-1)))
  }
  return Object.fromEntries(names.map(name => [name, scope.get(name)]))
}

/** evaluate returns the resources of a file and of its modules, and its outputs. */
export function evaluate(file, given, where = '/subscriptions/‹here›') {
  const scope = new Scope(file, { where })
  const resources = []
  const unused = new Set(Object.keys(given))
  const deferred = { outputs: {} }
  for (const node of parse(file)) {
    const name = node.namedChildren.find(child => child.type === 'identifier')?.text
    switch (node.type) {
      case 'parameter_declaration': {
        unused.delete(name)
        const fallback = node.namedChildren[2]
        if (name in given) scope.define(name, () => given[name])
        else if (fallback) scope.define(name, () => scope.value(fallback))
        else throw new Error(`${file}: ${name} is not given`)
        allowed(file, name, decorators(node), scope)
        break
      }
      case 'variable_declaration':
        scope.define(name, () => scope.value(node.namedChildren.at(-1)))
        break
      case 'resource_declaration': {
        const [type, version] = scope.value(node.namedChildren[1]).split('@')
        const existing = / existing =/.test(node.text.split('\n')[0])
        scope.define(name, () => instances(scope, node.namedChildren.at(-1), (inner, body) => resource(inner, type, version, body)))
        if (!existing) resources.push(() => [scope.get(name)].flat().filter(Boolean).map(r => r[declared]))
        break
      }
      case 'module_declaration': {
        const path = join(dirname(file), scope.value(node.namedChildren[1]))
        scope.define(name, () => instances(scope, node.namedChildren.at(-1), (inner, body) => {
          const fields = inner.properties(body)
          const made = evaluate(path, fields.params ? inner.value(fields.params) : {}, fields.scope ? place(inner.value(fields.scope)) : where)
          return { name: inner.value(fields.name), outputs: made.outputs, [declared]: made.resources }
        }))
        resources.push(() => [scope.get(name)].flat().filter(Boolean).flatMap(m => m[declared]))
        break
      }
      case 'output_declaration':
        Object.defineProperty(deferred.outputs, name, { enumerable: true, get: () => scope.value(node.namedChildren.at(-1)) })
        break
      case 'target_scope_assignment': case 'comment': case 'diagnostic_comment': case 'decorators':
        break
      default:
        throw new Error(`${file}: ${node.type} is not known here`)
    }
  }
  if (unused.size) throw new Error(`${file}: has no parameter ${[...unused].join(', ')}`)
  const outputs = Object.fromEntries(Object.keys(deferred.outputs).map(name => [name, deferred.outputs[name]]))
  return { resources: resources.flatMap(list => list()), outputs, parameters: Object.keys(given) }
}

const declared = Symbol('declared')
const place = target => target?.id ?? target

function decorators(node) {
  const before = node.previousNamedSibling
  return before?.type === 'decorators' ? before.namedChildren : node.descendantsOfType('decorator')
}

function allowed(file, name, marks, scope) {
  for (const mark of marks) {
    const call = mark.namedChildren[0]
    if (call?.namedChildren[0]?.text !== 'allowed') continue
    const values = scope.value(call.namedChildren[1].namedChildren[0])
    if (!values.includes(scope.get(name))) throw new Error(`${file}: ${name} is ${scope.get(name)}, allowed are ${values.join(', ')}`)
  }
}

// instances makes one of a body, several of a loop, none where a condition is false.
function instances(scope, node, make) {
  if (node.type === 'for_statement') return scope.loop(node, make)
  if (node.type === 'if_statement') {
    const [condition, body] = node.namedChildren
    return scope.value(condition) ? make(scope, body) : undefined
  }
  return make(scope, node)
}

// resource has what can be said before Azure was asked, and names for the rest.
function resource(scope, type, version, body) {
  const fields = scope.properties(body)
  const parent = fields.parent && scope.value(fields.parent)
  const at = fields.scope && scope.value(fields.scope)
  const name = scope.value(fields.name)
  const [provider, ...kinds] = type.split('/')
  const id = parent ? `${parent.id}/${kinds.at(-1)}/${name}`
    : type === 'Microsoft.Resources/resourceGroups' ? `${scope.where}/resourceGroups/${name}`
      : `${place(at) ?? scope.where}/providers/${provider}/${kinds[0]}/${name}`
  const rest = Object.fromEntries(Object.entries(fields).filter(([key]) => !['parent', 'scope', 'name', 'dependsOn'].includes(key))
    .map(([key, node]) => [key, scope.value(node)]))
  return { id, name, type, properties: unknown(name, rest.properties), listKeys: () => unknown(`${name}.listKeys()`),
    [declared]: { type, apiVersion: version, id, name, ...rest } }
}

// unknown is an object whose members only Azure knows, except for those that are given.
function unknown(text, known = {}) {
  return new Proxy(known, { get: (target, key) => typeof key === 'symbol' ? target[key] : key in target ? target[key] : `‹${text}.${key}›` })
}

class Scope {
  constructor(file, { where, names = {} }, environment) { Object.assign(this, { file, where, names, environment }) }

  define(name, get) {
    let value, known = false
    Object.defineProperty(this.names, name, {
      configurable: true,
      enumerable: true,
      get: () => {
        if (!known) [value, known] = [get(), true]
        return value
      },
    })
  }

  get(name) {
    if (!(name in this.names)) throw new ReferenceError(`${this.file}: ${name} is not declared`)
    return this.names[name]
  }

  with(names) { return new Scope(this.file, { where: this.where, names: Object.assign(Object.create(this.names), names) }, this.environment) }

  properties(node) {
    const entries = node.namedChildren.filter(child => child.type === 'object_property')
      .map(child => [this.key(child.namedChildren[0]), child.namedChildren.at(-1)])
    const names = entries.map(([name]) => name)
    const twice = names.find((name, i) => names.indexOf(name) !== i)
    if (twice) throw new Error(`${this.file}: ${twice} stands twice`)
    return Object.fromEntries(entries)
  }

  key(node) { return node.type === 'string' ? this.value(node) : node.text }

  loop(node, make) {
    const pair = node.namedChildren.find(child => child.type === 'for_loop_parameters')
    const variables = pair ? pair.namedChildren.map(child => child.text) : [node.namedChildren[0].text]
    const [list, body] = node.namedChildren.slice(1)
    return this.value(list).map((item, i) => instances(this.with({ [variables[0]]: item, [variables[1] ?? '#']: i }), body, make))
  }

  value(node) {
    const parts = node.namedChildren.filter(child => child.type !== 'comment')
    switch (node.type) {
      case 'string': return this.string(node)
      case 'number': return Number(node.text)
      case 'boolean': return node.text === 'true'
      case 'null': return null
      case 'array': return parts.map(part => this.value(part))
      case 'object': return Object.fromEntries(Object.entries(this.properties(node)).map(([key, child]) => [key, this.value(child)]))
      case 'identifier': return this.get(node.text)
      case 'parenthesized_expression': case 'non_null_assertion': case 'nullable_assertion': case 'non_null_expression': return this.value(parts[0])
      case 'for_statement': return this.loop(node, (scope, body) => scope.value(body))
      case 'ternary_expression': return this.value(parts[0]) ? this.value(parts[1]) : this.value(parts[2])
      case 'unary_expression': return !this.value(parts[0])
      case 'member_expression': return this.member(this.value(parts[0]), parts[1].text, node)
      case 'subscript_expression': return this.member(this.value(parts[0]), this.value(parts[1]), node)
      case 'lambda_expression': return item => this.with({ [parts[0].text]: item }).value(parts[1])
      case 'call_expression': return this.call(node, parts)
      default: throw new Error(`${this.file}: ${node.type} is not known here: ${node.text}`)
    }
  }

  // The grammar has no node for spaces at the ends of a piece of text, so that what lies between the other nodes is taken as it stands.
  string(node) {
    let text = '', from = 1
    for (const child of node.namedChildren.filter(part => part.type !== 'string_content')) {
      text += node.text.slice(from, child.startIndex - node.startIndex)
      text += child.type === 'interpolation' ? this.value(child.namedChildren[0]) : child.text.slice(1)
      from = child.endIndex - node.startIndex
    }
    return text + node.text.slice(from, -1)
  }

  member(object, name, node) {
    const value = object?.[name]
    if (value === undefined) throw new Error(`${this.file}: there is no ${name} in ${node.text}`)
    return value
  }

  call(node, [callee, args]) {
    const values = args.namedChildren.filter(child => child.type !== 'comment').map(child => this.value(child))
    if (callee.type === 'member_expression') return this.member(this.value(callee.namedChildren[0]), callee.namedChildren[1].text, node)(...values)
    const call = this.functions[callee.text]
    if (!call) throw new Error(`${this.file}: ${callee.text}() is not known here`)
    return call(...values)
  }

  functions = {
    bool: text => text === 'true',
    concat: (...lists) => lists.flat(),
    empty: value => value === null || value === '' || typeof value === 'object' && Object.keys(value).length === 0,
    endsWith: (text, end) => text.endsWith(end),
    filter: (list, keep) => list.filter(item => keep(item)),
    guid: (...parts) => `‹guid of ${parts.join(' ')}›`,
    join: (list, by) => list.join(by),
    json: text => JSON.parse(text),
    last: list => list.at(-1),
    loadJsonContent: path => JSON.parse(readFileSync(join(dirname(this.file), path), 'utf8')),
    map: (list, to) => list.map(item => to(item)),
    readEnvironmentVariable: (name, fallback) => {
      const value = this.environment?.[name] ?? fallback
      if (value === undefined) throw new Error(`${this.file}: ${name} is not set`)
      return value
    },
    replace: (text, from, to) => text.replaceAll(from, to),
    resourceGroup: (subscription, group) => group
      ? { id: `/subscriptions/${subscription}/resourceGroups/${group}` } : { id: this.where, name: this.where.split('/')[4] },
    split: (text, by) => text.split(by),
    string: value => String(value),
    subscription: (id = this.where.split('/')[2]) => ({ id: `/subscriptions/${id}`, subscriptionId: id }),
    subscriptionResourceId: (type, name) => `/subscriptions/‹here›/providers/${type}/${name}`,
    union: (...all) => Array.isArray(all[0]) ? [...new Set(all.flat())] : Object.assign({}, ...all),
    uniqueString: () => 'unique7unique',
  }
}
