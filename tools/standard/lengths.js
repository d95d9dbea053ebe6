// Prints the field and component lengths of hl7-dictionary 1.0.1, and which components of 2.5 and 2.5.1 are required (R):
//   npm pack hl7-dictionary@1.0.1 && tar xzf hl7-dictionary-1.0.1.tgz && node lengths.js ./package > lengths.json
const { resolve } = require("path");
const { definitions } = require(resolve(process.argv[2]));
const row = (parts) => parts.map((part) => `${part.datatype}:${part.len || 0}`).join(" ");
const usage = (parts) => parts.map((part) => `${part.datatype}${part.opt === 2 ? "*" : ""}:${part.len || 0}`).join(" ");
const out = {};
for (const [version, { segments, fields }] of Object.entries(definitions)) {
  if (version === "2.7.1") continue; // the same as 2.7
  out[version] = { segments: {}, types: {} };
  for (const name of Object.keys(segments).sort()) out[version].segments[name] = row(segments[name].fields);
  for (const name of Object.keys(fields).sort()) {
    const parts = fields[name].subfields;
    if (parts.some((part) => part.len > 0)) out[version].types[name] = (version.startsWith("2.5") ? usage : row)(parts);
  }
}
console.log(JSON.stringify(out, null, 0).replaceAll('","', '",\n"').replaceAll('{"', '{\n"'));
