-- Answers everything, as a program in Apache httpd.
function handle(r)
    r.headers_out['Saw'] = r.unparsed_uri
    r:write('ok')
    return apache2.OK
end
