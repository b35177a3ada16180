"use strict";

// The API tab: what to type to get the same from the server that this page comes from.

const recipes = [
  ["Vectors of texts", "curl", (at) => `curl ${at}/v1/embeddings${auth("curl")} \\
  -H 'Content-Type: application/json' \\
  -d '{"input": ["a photo of a cat", "a photo of a dog"]}'`],
  ["Vector of a picture", "curl", (at) => `(printf '{"input": "data:image/jpeg;base64,'; base64 -w0 cat.jpg; printf '"}') |
  curl ${at}/v1/embeddings${auth("curl")} \\
  -H 'Content-Type: application/json' -d @-`],
  ["Labels of a picture", "curl", (at) => `curl ${at}/classify${auth("curl")} \\
  -F image=@cat.jpg -F 'labels=cat,dog,car' -F 'template=a photo of a {}'`],
  ["With OpenAI's client", "Python", (at) => `${imports()}from openai import OpenAI

client = OpenAI(base_url="${at}/v1", api_key=${auth("python")})
answer = client.embeddings.create(model="${modelName()}", input=["a photo of a cat"])
print(len(answer.data[0].embedding))`],
  ["Pictures and texts, nothing but the standard library", "Python", (at) => `${imports()}import base64, json, urllib.request

def embed(*inputs):
    request = urllib.request.Request(
        "${at}/v1/embeddings", json.dumps({"input": inputs}).encode(),
        {"Content-Type": "application/json"${auth("headers")}})
    return [row["embedding"] for row in json.load(urllib.request.urlopen(request))["data"]]

picture = "data:image/jpeg;base64," + base64.b64encode(open("cat.jpg", "rb").read()).decode()
a, b = embed(picture, "a photo of a cat")
print("cosine", sum(x * y for x, y in zip(a, b)))`],
  ["Pictures by words", "curl", (at) => `curl ${at}/search${auth("curl")} \\
  -H 'Content-Type: application/json' -d '{"text": "a red car", "top": 5}'`],
  ["Is it well?", "curl", (at) => `curl ${at}/health; curl ${at}/ready; curl ${at}/stats`],
  ["How much does it take?", "shell", (at) => `tandem loadtest ${at} --rate 50 --seconds 30 --plot load.svg`],
];

/// The key is never shown: only the name of a variable that holds it.
function auth(where) {
  if (where === "python") return key() ? 'os.environ["TANDEM_KEY"]' : '"none"';
  if (!key()) return "";
  return where === "curl" ? ' -H "Authorization: Bearer $TANDEM_KEY"' : ', "Authorization": "Bearer " + os.environ["TANDEM_KEY"]';
}

const imports = () => key() ? "import os\n" : "";
const modelName = () => state.info ? state.info.model.id : "tandem";

function showRecipes() {
  $("recipes").replaceChildren(...recipes.map(([title, language, write], i) => {
    const card = element("section", "card recipe"), head = element("div", "card-head"), code = element("pre"), copy = element("button", "quiet", "Copy");
    const name = element("h2", "", title);
    name.id = `recipe-${i}`;
    card.setAttribute("aria-labelledby", name.id);
    copy.type = "button";
    copy.setAttribute("aria-label", `Copy: ${title}`);
    code.tabIndex = 0;
    code.append(element("code", "", write(location.origin)));
    copy.addEventListener("click", () => copyText(copy, code));
    const right = element("p", "hint", `${language} `);
    right.append(copy);
    head.append(name, right);
    card.append(head, code);
    return card;
  }));
}
