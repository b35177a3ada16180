// The /docs page: what /openapi.json says, to be read by people.
'use strict';

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

/// A request's or an answer's content: a title for each type, its schema below.
function showContent(title, content, parent) {
  for (const [type, what] of Object.entries(content || {})) {
    element('h4', `${title}: ${type}`, parent);
    element('pre', JSON.stringify(what.schema, null, 2), parent);
  }
}

function showRoute(path, method, operation, parent) {
  const box = element('details', '', parent);
  const head = element('summary', '', box);
  element('span', method.toUpperCase(), head).className = 'method';
  element('code', path, head);
  head.append(` ${operation.summary}`);
  box.dataset.words = `${method} ${path} ${operation.summary} ${operation.tags.join(' ')}`.toLowerCase();
  // Schemas are long: made when they are looked at.
  box.addEventListener('toggle', () => {
    for (const parameter of operation.parameters || []) {
      element('p', `${parameter.in}: ${parameter.name} ${JSON.stringify(parameter.schema)}`, box);
    }
    if (operation.requestBody) showContent('Request', operation.requestBody.content, box);
    for (const [status, answer] of Object.entries(operation.responses)) {
      if (status.startsWith('2')) showContent(`Answer ${status}`, answer.content, box);
      else element('p', `${status}: ${answer.description}`, box);
    }
  }, {once: true});
}

/// What the server says of its API; with the key that was given on the page, where one is needed. Both are asked for by
/// the same tab.
async function description() {
  const key = sessionStorage.getItem('key');
  const answer = await fetch('/openapi.json', key ? {headers: {Authorization: `Bearer ${key}`}} : {});
  const said = await answer.json();
  document.getElementById('key-form').hidden = answer.status !== 401;
  if (!answer.ok) throw new Error(said.error.message);
  return said;
}

document.getElementById('key-form').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem('key', document.getElementById('key').value);
  show();
});

async function show() {
  const state = document.getElementById('state');
  const routes = document.getElementById('routes');
  try {
    const api = await description();
    const groups = new Map();
    for (const [path, methods] of Object.entries(api.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        const tag = operation.tags[0];
        if (!groups.has(tag)) {
          const group = element('section', '', routes);
          element('h2', tag, group);
          groups.set(tag, group);
        }
        showRoute(path, method, operation, groups.get(tag));
      }
    }
    const shapes = document.getElementById('shapes');
    for (const [name, schema] of Object.entries(api.components.schemas)) {
      const box = element('details', '', shapes);
      element('code', name, element('summary', '', box));
      element('pre', JSON.stringify(schema, null, 2), box);
    }
    state.textContent = `${api.info.title} ${api.info.version}`;
  } catch (error) {
    state.textContent = `The description could not be read: ${error.message}`;
  }
}

document.getElementById('filter').addEventListener('input', (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/);
  for (const box of document.querySelectorAll('#routes details')) {
    box.hidden = !words.every((word) => box.dataset.words.includes(word));
  }
  for (const group of document.querySelectorAll('#routes section')) {
    group.hidden = !group.querySelector('details:not([hidden])');
  }
});

show();
